/** Draws the open image on the page's canvas: its pixels, mask, bones, points and the brush. */

import { keypointCss, SKELETON } from "../shared/hand.js";

const POINT_RADIUS = 6; // CSS pixels
const CHOSEN_RADIUS = 11;
const BONE_WIDTH = 2.5;
const SHARP_FROM = 3; // CSS pixels for one of the image, from which pixels are shown as squares

/**
 * Draw everything.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {import("./editor.js").Editor} editor
 */
export function paint(canvas, editor) {
  const { image, view } = editor;
  const density = window.devicePixelRatio;
  const width = Math.round(density * canvas.clientWidth);
  const height = Math.round(density * canvas.clientHeight);
  // Setting a side clears the canvas.
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!image) return;
  const scale = density * view.scale;
  context.setTransform(scale, 0, 0, scale, density * view.x, density * view.y);
  context.imageSmoothingEnabled = view.scale < SHARP_FROM;
  context.drawImage(editor.pixels, 0, 0);
  if (editor.showsMask) editor.mask.draw(context);
  context.setTransform(density, 0, 0, density, 0, 0);
  if (editor.showsPoints) drawPoints(context, editor);
  if (editor.tool !== "points") drawBrush(context, editor);
}

function drawPoints(context, { labels, view, selected }) {
  const positions = labels.points.map(({ x, y }) => view.toCanvas(x, y));
  context.lineWidth = BONE_WIDTH;
  for (const [start, end] of SKELETON) {
    if (labels.points[start].missing || labels.points[end].missing) continue;
    context.strokeStyle = keypointCss(end);
    context.beginPath();
    context.moveTo(...positions[start]);
    context.lineTo(...positions[end]);
    context.stroke();
  }
  labels.points.forEach(({ missing }, index) => {
    drawCircle(context, positions[index], POINT_RADIUS, "#000", 3);
    context.setLineDash(missing ? [3, 3] : []);
    drawCircle(context, positions[index], POINT_RADIUS, "#fff", missing ? 2.5 : 1.5);
    context.setLineDash([]);
    if (missing) return;
    context.fillStyle = keypointCss(index);
    context.fill();
  });
  drawCircle(context, positions[selected], CHOSEN_RADIUS, "#000", 4);
  drawCircle(context, positions[selected], CHOSEN_RADIUS, "#ffd54a", 2);
}

function drawBrush(context, { brushPosition, brushDiameter, view }) {
  const centre = view.toCanvas(...brushPosition);
  const radius = Math.max((brushDiameter * view.scale) / 2, 1);
  drawCircle(context, centre, radius, "#000", 3);
  drawCircle(context, centre, radius, "#fff", 1);
}

function drawCircle(context, [x, y], radius, colour, width) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}
