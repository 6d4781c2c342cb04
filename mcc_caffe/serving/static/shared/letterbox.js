/**
 * Makes the network's input of a part of an image, as mcc_caffe/inference/pyramid.py does.
 *
 * The centres of pixels have integer coordinates. A map is an affine one (affine.js). A window
 * {x, y, width, height, turn} is a part of the image turned about its centre by `turn` degrees,
 * counter-clockwise, as a Look of mcc_caffe/inference/looks.py is.
 */

import {
  apply,
  compose,
  invert,
  movedBox,
  scaleAndShift,
  shrinkFactor,
  turnAboutCentre,
} from "./affine.js";

const GREY = 128;
const PIXEL_SCALE = 256;
// A reduced image keeps at least so many pixels to one of the input.
const PIXELS_PER_INPUT_PIXEL = 4;
const SMALLEST_SIDE = 32; // pixels, of a reduced image

// The map of a halved image's pixels to the image's.
const FROM_HALF = scaleAndShift(2, 2, 0.5, 0.5);

/** Return the window that is all of an image. */
export function imageWindow(width, height) {
  return { x: 0, y: 0, width, height, turn: 0 };
}

/**
 * Return the map of an image's pixels to the letterboxed input of a window.
 *
 * @param {{x, y, width, height, turn}} window
 * @param {number} width, height - of the image in pixels.
 * @param {number} size - m, the side of the input in pixels.
 */
export function windowMap(window, width, height, size) {
  const scale = Math.min(size / window.width, size / window.height);
  const letterbox = scaleAndShift(scale, scale, -scale * window.x, -scale * window.y);
  return compose(turnAboutCentre(window.turn, width, height), letterbox);
}

/**
 * Return the upright box {x, y, width, height} around what an input shows of the image, in input
 * pixels. Keypoints are looked for only there.
 */
export function contentOf(map, width, height, size) {
  const rounded = (value) => Math.round(value * 1e6) / 1e6;
  const clipped = (value, least) => Math.min(Math.max(value, least), size - 1);
  const box = movedBox(map, { left: 0, top: 0, right: width - 1, bottom: height - 1 });
  const x = clipped(Math.ceil(rounded(box.left)), 0);
  const y = clipped(Math.ceil(rounded(box.top)), 0);
  const right = clipped(Math.floor(rounded(box.right)), x);
  const bottom = clipped(Math.floor(rounded(box.bottom)), y);
  return { x, y, width: right - x + 1, height: bottom - y + 1 };
}

/**
 * Make the network's input of a window.
 *
 * @param {CanvasImageSource} image
 * @param {number} width, height - of the image in pixels.
 * @param {object} map - of the image's pixels to input pixels.
 * @param {number} size - m, the side of the input in pixels.
 * @returns {Float32Array} (3, m, m) of (BGR - 128) / 256; empty pixels are 0.
 */
export function networkInput(image, width, height, map, size) {
  const part = readPart(image, width, height, map, size);
  return warp(averageSteps(part), size);
}

/** Return a box of pixels around what an input shows, halved as pyramid.py does, and their map. */
function readPart(image, width, height, map, size) {
  const factor = Math.min(
    shrinkFactor(map) / PIXELS_PER_INPUT_PIXEL,
    Math.min(width, height) / SMALLEST_SIDE,
  );
  const halvings = Math.max(Math.floor(Math.log2(factor)), 0);
  for (let halving = 0; halving < halvings; halving += 1) {
    const [halfWidth, halfHeight] = [Math.floor(width / 2), Math.floor(height / 2)];
    const context = whiteCanvas(halfWidth, halfHeight);
    // At exactly half the size, linear interpolation is the mean of four pixels.
    context.imageSmoothingQuality = "low";
    context.drawImage(
      image, 0, 0, 2 * halfWidth, 2 * halfHeight, 0, 0, halfWidth, halfHeight,
    );
    [image, width, height] = [context.canvas, halfWidth, halfHeight];
    map = compose(FROM_HALF, map);
  }
  // Rounded as geometry.warp does; the part begins where a square that is averaged begins.
  const step = Math.max(Math.floor(shrinkFactor(map)), 1);
  const input = { left: -1, top: -1, right: size, bottom: size };
  const box = movedBox(invert(map), input);
  const [left, right] = alignedRange(box.left, box.right, step, width);
  const [top, bottom] = alignedRange(box.top, box.bottom, step, height);
  const context = whiteCanvas(right - left, bottom - top, { willReadFrequently: true });
  context.drawImage(
    image, left, top, right - left, bottom - top, 0, 0, right - left, bottom - top,
  );
  return {
    pixels: context.getImageData(0, 0, right - left, bottom - top).data,
    width: right - left,
    height: bottom - top,
    step,
    map: compose(scaleAndShift(1, 1, left, top), map),
  };
}

/** Return a drawing context on white, which stands behind transparent images. */
function whiteCanvas(width, height, options = {}) {
  const context = new OffscreenCanvas(width, height).getContext("2d", options);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  return context;
}

/** Return [first, last + 1] of the image's pixels, in whole steps, around a part of an axis. */
function alignedRange(start, end, step, length) {
  const inSteps = (value) => Math.floor(value / step) * step;
  const first = inSteps(Math.floor(start));
  const last = inSteps(Math.ceil(end)) + 2 * step;
  // At least a pixel, even where the window lies outside of the image.
  const left = Math.min(Math.max(first, 0), length - 1);
  return [left, Math.min(Math.max(last, left + 1), length)];
}

/**
 * Average RGBA pixels over squares of `step` pixels, as cv2.resize with INTER_AREA does.
 *
 * @returns {{values: Float32Array, width, height, map}} RGB values of `width` x `height` pixels
 *   with a grey border of one pixel, and the map of the pixels to input pixels.
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
    map: compose(scaleAndShift(factorX, factorY, (factorX - 1) / 2, (factorY - 1) / 2), map),
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
function warp({ values, width, height, map }, size) {
  const input = new Float32Array(3 * size * size);
  const inputToPixels = invert(map);
  const stride = 3 * (width + 2);
  for (let v = 0; v < size; v += 1) {
    for (let u = 0; u < size; u += 1) {
      const [x, y] = apply(inputToPixels, u, v);
      const [column, row] = [Math.floor(x), Math.floor(y)];
      if (column < -1 || column >= width || row < -1 || row >= height) continue;
      // As 32-bit numbers, in which the map's rounding is lost: so halves are rounded as by cv2.
      const [beside, below] = [Math.fround(x - column), Math.fround(y - row)];
      const corner = (row + 1) * stride + 3 * (column + 1);
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
