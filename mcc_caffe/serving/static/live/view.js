/** The canvas: the picture with what the network says of it. */

import { drawHeatmaps, drawMask, drawSkeleton } from "../shared/drawing.js";

const LONGEST_SIDE = 1280; // of the canvas, in its pixels

/**
 * Draw a picture and its answer.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} picture
 * @param {object} answer - as network.js describes it.
 * @param {boolean[]} present - for each keypoint.
 * @param {{mask, skeleton, heatmaps: boolean}} options
 */
export function draw(canvas, picture, answer, present, { mask, skeleton, heatmaps }) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(scale * picture.width));
  const height = Math.max(1, Math.round(scale * picture.height));
  // Setting a side clears the canvas and takes time.
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
  }
  const context = canvas.getContext("2d");
  context.setTransform(width / picture.width, 0, 0, height / picture.height, 0, 0);
  context.fillStyle = "white"; // behind transparent pictures
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  if (heatmaps) drawHeatmaps(context, answer);
  if (mask) drawMask(context, answer);
  if (skeleton) {
    const bone = Math.max(picture.width, picture.height) / 130;
    drawSkeleton(context, answer.keypoints, present, bone);
  }
}
