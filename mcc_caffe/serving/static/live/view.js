/** The canvas: the image with what the network says of it. */

import { boxAround } from "../shared/affine.js";
import { drawHeatmaps, drawMask, drawSkeleton } from "../shared/drawing.js";
import { isHandPresent } from "./presence.js";

const LONGEST_SIDE = 1280; // of the canvas, in its pixels
const BONE_SHARE = 1 / 80; // of a hand's longer side, the width of its bones
const BONE_OF_UNKNOWN_SIZE = 2; // pixels, where a single keypoint does not say how large the hand is

/**
 * Draw an image and its answer; no mask where no keypoint is present.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} image
 * @param {object} answer - as network.js describes it.
 * @param {boolean[]} present - for each keypoint.
 * @param {{mask, skeleton, heatmaps: boolean}} options
 */
export function draw(canvas, image, answer, present, { mask, skeleton, heatmaps }) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const width = Math.max(1, Math.round(scale * image.width));
  const height = Math.max(1, Math.round(scale * image.height));
  // Setting a side clears the canvas and takes time.
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
  }
  const context = canvas.getContext("2d");
  context.setTransform(width / image.width, 0, 0, height / image.height, 0, 0);
  context.fillStyle = "white"; // behind transparent images
  context.fillRect(0, 0, image.width, image.height);
  context.drawImage(image, 0, 0);
  if (heatmaps) drawHeatmaps(context, answer);
  if (mask && isHandPresent(present)) drawMask(context, answer);
  if (skeleton) {
    const points = answer.keypoints.filter((_, keypoint) => present[keypoint]);
    drawSkeleton(context, answer.keypoints, present, boneWidth(points, scale));
  }
}

/**
 * Return the width of a hand's bones in the image's pixels, as mcc_caffe/core/drawing.py has it; at
 * least one pixel of the canvas, on which the image is drawn `scale` times as large.
 */
function boneWidth(points, scale) {
  if (points.length < 2) return BONE_OF_UNKNOWN_SIZE / scale;
  const { left, top, right, bottom } = boxAround(points);
  return Math.max(BONE_SHARE * Math.max(right - left, bottom - top), 1 / scale);
}
