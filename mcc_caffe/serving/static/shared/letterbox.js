/**
 * Makes the network's input of a part of a picture, as mcc_caffe/inference/pyramid.py does.
 *
 * The centres of pixels have integer coordinates. A map {scale, x, y} takes an image pixel u to
 * scale * u + x, and v to scale * v + y.
 */

const GREY = 128;
const PIXEL_SCALE = 256;
// A reduced picture keeps at least so many pixels to one of the input.
const PIXELS_PER_INPUT_PIXEL = 4;
const SMALLEST_SIDE = 32; // pixels, of a reduced picture

/** Return the window {x, y, width, height} of a whole picture. */
export function wholeWindow(width, height) {
  return { x: 0, y: 0, width, height };
}

/** Return the map of image pixels to the letterboxed input (size x size) of a window. */
export function windowMap(window, size) {
  const scale = Math.min(size / window.width, size / window.height);
  return { scale, x: -scale * window.x, y: -scale * window.y };
}

/**
 * Return the part {x, y, width, height} of an input that shows the picture, in input pixels.
 * Keypoints are looked for only there.
 */
export function contentOf(map, width, height, size) {
  const rounded = (value) => Math.round(value * 1e6) / 1e6;
  const clipped = (value, least) => Math.min(Math.max(value, least), size - 1);
  const x = clipped(Math.ceil(rounded(map.x)), 0);
  const y = clipped(Math.ceil(rounded(map.y)), 0);
  const right = clipped(Math.floor(rounded(map.scale * (width - 1) + map.x)), x);
  const bottom = clipped(Math.floor(rounded(map.scale * (height - 1) + map.y)), y);
  return { x, y, width: right - x + 1, height: bottom - y + 1 };
}

/**
 * Make the network's input of a window.
 *
 * @param {CanvasImageSource} picture
 * @param {number} width, height - of the picture in pixels.
 * @param {{scale, x, y}} map - of the picture's pixels to input pixels.
 * @param {number} size - m, the side of the input in pixels.
 * @returns {Float32Array} (3, m, m) of (BGR - 128) / 256; empty pixels are 0.
 */
export function networkInput(picture, width, height, map, size) {
  const part = readPart(picture, width, height, map, size);
  return warp(averageSteps(part), size);
}

/** Return the pixels that an input shows, halved as often as pyramid.py does, and their map. */
function readPart(picture, width, height, map, size) {
  const factor = Math.min(
    1 / (map.scale * PIXELS_PER_INPUT_PIXEL),
    Math.min(width, height) / SMALLEST_SIDE,
  );
  const halvings = Math.max(Math.floor(Math.log2(factor)), 0);
  for (let halving = 0; halving < halvings; halving += 1) {
    const [halfWidth, halfHeight] = [Math.floor(width / 2), Math.floor(height / 2)];
    const context = whiteCanvas(halfWidth, halfHeight);
    // At exactly half the size, linear interpolation is the mean of four pixels.
    context.imageSmoothingQuality = "low";
    context.drawImage(
      picture, 0, 0, 2 * halfWidth, 2 * halfHeight, 0, 0, halfWidth, halfHeight,
    );
    [picture, width, height] = [context.canvas, halfWidth, halfHeight];
    // A pixel of the half, u, lies at 2 u + 0.5 of the picture.
    map = { scale: 2 * map.scale, x: map.x + 0.5 * map.scale, y: map.y + 0.5 * map.scale };
  }
  // Rounded as geometry.warp does; the part begins where a square that is averaged begins.
  const step = Math.max(Math.floor(1 / Math.sqrt(map.scale * map.scale)), 1);
  const [left, right] = shownRange(map.scale, map.x, size, step, width);
  const [top, bottom] = shownRange(map.scale, map.y, size, step, height);
  const context = whiteCanvas(right - left, bottom - top, { willReadFrequently: true });
  context.drawImage(
    picture, left, top, right - left, bottom - top, 0, 0, right - left, bottom - top,
  );
  return {
    pixels: context.getImageData(0, 0, right - left, bottom - top).data,
    width: right - left,
    height: bottom - top,
    step,
    map: { scale: map.scale, x: map.x + map.scale * left, y: map.y + map.scale * top },
  };
}

/** Return a drawing context on white, which stands behind transparent pictures. */
function whiteCanvas(width, height, options = {}) {
  const context = new OffscreenCanvas(width, height).getContext("2d", options);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  return context;
}

/** Return [first, last + 1] of the pixels, in whole steps, that the input shows along an axis. */
function shownRange(scale, shift, size, step, length) {
  const inSteps = (value) => Math.floor(value / step) * step;
  const first = inSteps(Math.floor((-1 - shift) / scale));
  const last = inSteps(Math.ceil((size - shift) / scale)) + 2 * step;
  // At least a pixel, even where the window lies outside of the picture.
  const left = Math.min(Math.max(first, 0), length - 1);
  return [left, Math.min(Math.max(last, left + 1), length)];
}

/**
 * Average RGBA pixels over squares of `step` pixels, as cv2.resize with INTER_AREA does.
 *
 * @returns {{values: Float32Array, width, height, scaleX, scaleY, x, y}} RGB values of `width` x
 *   `height` pixels with a grey border of one pixel, and the map of the pixels to input pixels.
 */
function averageSteps({ pixels, width, height, step, map }) {
  const smallWidth = Math.ceil(width / step);
  const smallHeight = Math.ceil(height / step);
  const [factorX, factorY] = [width / smallWidth, height / smallHeight];
  const across = overlaps(width, smallWidth);
  const down = overlaps(height, smallHeight);
  const stride = 3 * (smallWidth + 2);
  const sums = new Float32Array((smallHeight + 2) * stride);
  const row = new Float32Array(stride);
  for (let y = 0; y < height; y += 1) {
    row.fill(0);
    let source = 4 * width * y;
    for (let x = 0; x < width; x += 1, source += 4) {
      const target = 3 * (across.first[x] + 1);
      const share = across.share[x];
      row[target] += share * pixels[source];
      row[target + 1] += share * pixels[source + 1];
      row[target + 2] += share * pixels[source + 2];
      if (share < 1) {
        row[target + 3] += (1 - share) * pixels[source];
        row[target + 4] += (1 - share) * pixels[source + 1];
        row[target + 5] += (1 - share) * pixels[source + 2];
      }
    }
    const target = stride * (down.first[y] + 1);
    const share = down.share[y];
    for (let i = 0; i < stride; i += 1) sums[target + i] += share * row[i];
    if (share < 1) {
      const next = target + stride;
      for (let i = 0; i < stride; i += 1) sums[next + i] += (1 - share) * row[i];
    }
  }
  const area = factorX * factorY;
  const values = new Float32Array(sums.length).fill(GREY);
  for (let y = 1; y <= smallHeight; y += 1) {
    for (let i = y * stride + 3; i < (y + 1) * stride - 3; i += 1) {
      values[i] = Math.round(sums[i] / area);
    }
  }
  return {
    values,
    width: smallWidth,
    height: smallHeight,
    scaleX: map.scale * factorX,
    scaleY: map.scale * factorY,
    x: map.x + map.scale * (0.5 * factorX - 0.5),
    y: map.y + map.scale * (0.5 * factorY - 0.5),
  };
}

/** Return, for each of `length` pixels, the small pixel it begins in and its share there. */
function overlaps(length, smallLength) {
  const first = new Int32Array(length);
  const share = new Float32Array(length);
  for (let pixel = 0; pixel < length; pixel += 1) {
    const small = Math.floor((pixel * smallLength) / length + 1e-9);
    const end = ((small + 1) * length) / smallLength;
    first[pixel] = small;
    share[pixel] = small === smallLength - 1 ? 1 : Math.min(end - pixel, 1);
  }
  return { first, share };
}

/** Draw averaged pixels into the input by linear interpolation, on grey. */
function warp({ values, width, height, scaleX, scaleY, x, y }, size) {
  const input = new Float32Array(3 * size * size);
  const columns = samples(scaleX, x, size, width);
  const rows = samples(scaleY, y, size, height);
  const stride = 3 * (width + 2);
  for (let v = 0; v < size; v += 1) {
    if (!rows.isCovered[v]) continue;
    const below = rows.weight[v];
    for (let u = 0; u < size; u += 1) {
      if (!columns.isCovered[u]) continue;
      const beside = columns.weight[u];
      const corner = (rows.index[v] + 1) * stride + 3 * (columns.index[u] + 1);
      for (let channel = 0; channel < 3; channel += 1) {
        const at = corner + channel;
        const upper = values[at] + beside * (values[at + 3] - values[at]);
        const lower =
          values[at + stride] + beside * (values[at + stride + 3] - values[at + stride]);
        const value = Math.round(upper + below * (lower - upper));
        input[((2 - channel) * size + v) * size + u] = (value - GREY) / PIXEL_SCALE;
      }
    }
  }
  return input;
}

/**
 * Return, for each input pixel along an axis, the pixel before it, the weight of the next one, and
 * whether one of the two belongs to the picture.
 */
function samples(scale, shift, size, length) {
  const index = new Int32Array(size);
  const weight = new Float32Array(size);
  const isCovered = new Uint8Array(size);
  for (let pixel = 0; pixel < size; pixel += 1) {
    const position = (pixel - shift) / scale;
    index[pixel] = Math.floor(position);
    weight[pixel] = position - index[pixel];
    isCovered[pixel] = index[pixel] >= -1 && index[pixel] < length ? 1 : 0;
  }
  return { index, weight, isCovered };
}
