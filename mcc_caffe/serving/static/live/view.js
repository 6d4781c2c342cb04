/** The canvas: the image with what the network says of it. */

import { drawHeatmaps, drawMask, drawSkeleton } from "../shared/drawing.js";
import { isHandPresent } from "./presence.js";

const LONGEST_SIDE = 1280; // of the canvas, in its pixels

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
    const bone = Math.max(image.width, image.height) / 130;
    drawSkeleton(context, answer.keypoints, present, bone);
  }
}
