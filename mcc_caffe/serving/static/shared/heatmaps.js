/**
 * Finds keypoints in heatmaps, as `decode_smoothed` of mcc_caffe/core/heatmaps.py does: the maximum
 * of each map, smoothed and then up-sampled by 8 bicubically with cv2's weights.
 */

import { KEYPOINT_COUNT } from "./hand.js";

export const STRIDE = 8; // input pixels to a cell
const SHARPNESS = -0.75; // of cv2's cubic
const [SIDE, CENTRE] = [1 / 6, 4 / 6]; // what a cell's neighbours and itself count when smoothed

// In one dimension the negative weights sum to -0.75 / 4 at most. So a pixel exceeds the highest
// value in its row by at most that part of the row's range.
const OVERSHOOT = 0.75 / 4;

/** Weights of 4 cells for each of the 8 pixels of a cell; the first cell lies `before` it. */
const PHASES = Array.from({ length: STRIDE }, (_, phase) => {
  const position = (phase + 0.5) / STRIDE - 0.5;
  const before = Math.floor(position);
  return { before: before - 1, weights: cubicWeights(position - before) };
});

function cubicWeights(x) {
  const a = SHARPNESS;
  const far = (d) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const near = (d) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const weights = [far(x + 1), near(x), near(1 - x)];
  return [...weights, 1 - weights[0] - weights[1] - weights[2]];
}

/**
 * Find the keypoints of one input.
 *
 * @param {Float32Array} maps - (22, S, S), the background's map last.
 * @param {number} cells - S.
 * @param {{x, y, width, height}} content - the part of the input, in pixels, where maxima count.
 * @returns {number[][]} 21 of [x, y, confidence] in input pixels.
 */
export function decode(maps, cells, content) {
  if (!maps.every(Number.isFinite)) {
    throw new Error("the network's heatmaps are not finite: export the page with other weights");
  }
  const length = cells * cells;
  return Array.from({ length: KEYPOINT_COUNT }, (_, keypoint) => {
    const map = maps.subarray(keypoint * length, (keypoint + 1) * length);
    const [x, y] = findPeak(smooth(map, cells), cells, content);
    return [x, y, pixelOf(upsampledRow(map, cells, y), cells, x)];
  });
}

/** Average each cell of a map with its neighbours; at an edge the cell stands for the one beyond. */
function smooth(map, cells) {
  const last = cells - 1;
  const down = map.map((value, index) => {
    const [row, column] = [Math.floor(index / cells), index % cells];
    const above = map[Math.max(row - 1, 0) * cells + column];
    const below = map[Math.min(row + 1, last) * cells + column];
    return SIDE * (above + below) + CENTRE * value;
  });
  return down.map((value, index) => {
    const column = index % cells;
    const left = down[index - (column > 0 ? 1 : 0)];
    const right = down[index + (column < last ? 1 : 0)];
    return SIDE * (left + right) + CENTRE * value;
  });
}

/** Return x and y of the maximum of a map, the first one in reading order. */
function findPeak(map, cells, { x, y, width, height }) {
  const rows = Array.from({ length: height }, (_, index) => upsampledRow(map, cells, y + index));
  // The rows that can hold the highest maximum come first, and most others need not be drawn.
  const order = rows.map((row, index) => ({ index, bound: highestPossible(row) }));
  order.sort((a, b) => b.bound - a.bound || a.index - b.index);
  let best = { value: -Infinity, row: 0, column: 0 };
  for (const { index, bound } of order) {
    if (bound < best.value) break;
    for (let column = x; column < x + width; column += 1) {
      const value = pixelOf(rows[index], cells, column);
      if (value > best.value || (value === best.value && index < best.row)) {
        best = { value, row: index, column };
      }
    }
  }
  return [best.column, y + best.row];
}

/** Return a row of pixels as cells: up-sampled down the map, not yet across it. */
function upsampledRow(map, cells, pixelRow) {
  const { before, weights } = PHASES[pixelRow % STRIDE];
  const cell = Math.floor(pixelRow / STRIDE) + before;
  const row = new Float32Array(cells);
  for (let tap = 0; tap < 4; tap += 1) {
    const start = cells * Math.min(Math.max(cell + tap, 0), cells - 1);
    for (let column = 0; column < cells; column += 1) {
      row[column] += weights[tap] * map[start + column];
    }
  }
  return row;
}

function highestPossible(row) {
  let [lowest, highest] = [Infinity, -Infinity];
  for (const value of row) {
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  const rounding = 1e-5 * Math.max(Math.abs(highest), Math.abs(lowest));
  return highest + OVERSHOOT * (highest - lowest) + rounding;
}

function pixelOf(row, cells, pixel) {
  const { before, weights } = PHASES[pixel % STRIDE];
  const cell = Math.floor(pixel / STRIDE) + before;
  let sum = 0;
  for (let tap = 0; tap < 4; tap += 1) {
    sum += weights[tap] * row[Math.min(Math.max(cell + tap, 0), cells - 1)];
  }
  return sum;
}

/**
 * Up-sample a map by 8.
 *
 * @param {Float32Array} map - (S, S).
 * @param {number} cells - S.
 * @returns {Float32Array} (8 S, 8 S).
 */
export function upsample(map, cells) {
  const size = STRIDE * cells;
  const pixels = new Float32Array(size * size);
  for (let y = 0; y < size; y += 1) {
    const row = upsampledRow(map, cells, y);
    for (let x = 0; x < size; x += 1) pixels[y * size + x] = pixelOf(row, cells, x);
  }
  return pixels;
}
