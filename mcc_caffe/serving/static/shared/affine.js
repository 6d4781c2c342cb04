/**
 * Affine maps, as mcc_caffe/core/geometry.py has them.
 *
 * A map {a, b, c, d, e, f} takes (x, y) to (a x + c y + e, b x + d y + f), as a canvas's transform
 * of these numbers does.
 */

/** Return the map that scales and then shifts: x' = scaleX x + shiftX, y' likewise. */
export function scaleAndShift(scaleX, scaleY, shiftX, shiftY) {
  return { a: scaleX, b: 0, c: 0, d: scaleY, e: shiftX, f: shiftY };
}

/** Return the map that turns an image about its centre, counter-clockwise as one sees it. */
export function turnAboutCentre(degrees, width, height) {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const [x, y] = [(width - 1) / 2, (height - 1) / 2];
  return { a: cos, b: -sin, c: sin, d: cos, e: x - cos * x - sin * y, f: y + sin * x - cos * y };
}

/** Return the map that applies one map, and then another. */
export function compose(first, second) {
  const [e, f] = apply(second, first.e, first.f);
  return {
    a: second.a * first.a + second.c * first.b,
    b: second.b * first.a + second.d * first.b,
    c: second.a * first.c + second.c * first.d,
    d: second.b * first.c + second.d * first.d,
    e,
    f,
  };
}

/** Return the inverse of a map. */
export function invert({ a, b, c, d, e, f }) {
  const area = a * d - b * c;
  return {
    a: d / area,
    b: -b / area,
    c: -c / area,
    d: a / area,
    e: (c * f - d * e) / area,
    f: (b * e - a * f) / area,
  };
}

/** Return [x, y] of a moved point. */
export function apply(map, x, y) {
  return [map.a * x + map.c * y + map.e, map.b * x + map.d * y + map.f];
}

/** Return how many times smaller a map makes things, with six decimals; below 1: larger. */
export function shrinkFactor({ a, b, c, d }) {
  return Math.round(1e6 / Math.sqrt(Math.abs(a * d - b * c))) / 1e6;
}

/** Return {left, top, right, bottom} of what a map makes of a rectangle with these sides. */
export function movedBox(map, { left, top, right, bottom }) {
  const corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
  return boxAround(corners.map(([x, y]) => apply(map, x, y)));
}

/** Return {left, top, right, bottom} of the box around points [x, y, ...]. */
export function boxAround(points) {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const [x, y] of points) {
    [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x)];
    [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y)];
  }
  return box;
}
