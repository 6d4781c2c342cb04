/**
 * Draws what the network says over an image, in the colours of mcc_caffe/core/drawing.py.
 *
 * Every function draws in the image's pixels: the context's transform maps them to its canvas.
 * There the centre of pixel x lies at x + 0.5.
 */

import { invert } from "./affine.js";
import { KEYPOINT_COUNT, keypointColour, keypointCss, MASK_COLOUR, SKELETON } from "./hand.js";
import { STRIDE, upsample } from "./heatmaps.js";

const MASK_OPACITY = 0.55;
const MASK_EDGE = 0.1; // probability either side of 0.5 over which the tint fades

/**
 * Draw the keypoints that are present and the bones between them.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number[][]} keypoints - 21 of [x, y, ...] in the image's pixels.
 * @param {boolean[]} present - 21.
 * @param {number} width - of a bone, in the image's pixels.
 */
export function drawSkeleton(context, keypoints, present, width) {
  context.save();
  context.lineWidth = width;
  context.lineCap = "round";
  for (const [start, end] of SKELETON) {
    if (!present[start] || !present[end]) continue;
    context.strokeStyle = keypointCss(end);
    context.beginPath();
    context.moveTo(keypoints[start][0] + 0.5, keypoints[start][1] + 0.5);
    context.lineTo(keypoints[end][0] + 0.5, keypoints[end][1] + 0.5);
    context.stroke();
  }
  for (let k = 0; k < KEYPOINT_COUNT; k += 1) {
    if (!present[k]) continue;
    context.fillStyle = keypointCss(k);
    context.beginPath();
    context.arc(keypoints[k][0] + 0.5, keypoints[k][1] + 0.5, 1.2 * width, 0, 2 * Math.PI);
    context.fill();
  }
  context.restore();
}

/** Tint the hand blue, where the mask of an answer (network.js) is above 0.5. */
export function drawMask(context, { mask, cells, map }) {
  const size = STRIDE * cells;
  const probability = upsample(mask, cells);
  const overlay = new ImageData(size, size);
  const [red, green, blue] = MASK_COLOUR;
  for (let i = 0, at = 0; i < probability.length; i += 1, at += 4) {
    const opacity = (probability[i] - 0.5 + MASK_EDGE) / (2 * MASK_EDGE);
    if (opacity <= 0) continue;
    overlay.data[at] = red;
    overlay.data[at + 1] = green;
    overlay.data[at + 2] = blue;
    overlay.data[at + 3] = 255 * MASK_OPACITY * Math.min(opacity, 1);
  }
  drawThrough(context, overlay, map, 1);
}

/** Darken the image and draw, at each place, the strongest heatmap in its finger's colour. */
export function drawHeatmaps(context, { heatmaps, cells, map, width, height }) {
  context.save();
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.fillRect(0, 0, width, height);
  context.restore();
  const overlay = new ImageData(cells, cells);
  const count = cells * cells;
  for (let cell = 0; cell < count; cell += 1) {
    let strongest = 0;
    for (let k = 1; k < KEYPOINT_COUNT; k += 1) {
      if (heatmaps[k * count + cell] > heatmaps[strongest * count + cell]) strongest = k;
    }
    const heat = Math.min(Math.max(heatmaps[strongest * count + cell], 0), 1);
    const colour = keypointColour(strongest).map((value) => 0.5 * value + 127);
    overlay.data.set([...colour, 255 * heat], 4 * cell);
  }
  drawThrough(context, overlay, map, STRIDE);
}

/** Draw an overlay, whose pixels are `pixelSize` pixels of the input wide, on the image. */
function drawThrough(context, overlay, map, pixelSize) {
  const canvas = new OffscreenCanvas(overlay.width, overlay.height);
  canvas.getContext("2d").putImageData(overlay, 0, 0);
  context.save();
  context.imageSmoothingQuality = "high";
  // The centre of pixel 0 lies at 0.5 of a canvas, and at 0 in the map.
  const { a, b, c, d, e, f } = invert(map);
  context.translate(0.5, 0.5);
  context.transform(a, b, c, d, e, f);
  context.translate(-0.5, -0.5);
  context.scale(pixelSize, pixelSize);
  context.drawImage(canvas, 0, 0);
  context.restore();
}
