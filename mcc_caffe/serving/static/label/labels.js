/**
 * The labels of an image, as the server has them: {status, points, runs}. They are never changed;
 * each function returns new ones.
 */

import { FINGERS, NAMES } from "../shared/hand.js";

// As in mcc_caffe/core/keypoint_labels.py: of a hand that the image's corner cuts, a few points may
// lie in its second pixel.
const MANY_POINTS = 5;

/** What a person reads of an image's status. */
export const STATUS_WORDS = { open: "to be labelled", done: "done", none: "not to be labelled" };

const JOINTS = { 1: "base", 2: "second joint", 3: "third joint", 4: "tip" };

/** Return the labels with a point at another position; it is then no longer missing. */
export function withPoint(labels, index, x, y) {
  return replacePoint(labels, index, { x, y, missing: false });
}

/** Return the labels with a point marked as missing, or as not missing. */
export function withMissing(labels, index, missing) {
  return replacePoint(labels, index, { ...labels.points[index], missing });
}

function replacePoint(labels, index, point) {
  return { ...labels, points: labels.points.map((old, k) => (k === index ? point : old)) };
}

/** Return the position nearest to (x, y) that lies in an image, rounded to hundredths. */
export function insideImage(x, y, { width, height }) {
  const limit = (value, last) => Math.round(100 * Math.min(Math.max(value, 0), last)) / 100;
  return [limit(x, width - 1), limit(y, height - 1)];
}

/** Say what keeps labels from being complete, as the server does; "" where nothing does. */
export function findGap(labels) {
  const placed = labels.points.filter((point) => !point.missing);
  if (!placed.length) {
    return "All 21 points are missing: place at least one, or choose No hand.";
  }
  if (!labels.runs.some((run, index) => index % 2 === 1 && run > 0)) {
    return "The mask is empty: paint the hand with the brush.";
  }
  // OneHand10K's layout holds whole pixels, and halves are rounded to even numbers: up to these
  // limits a coordinate becomes at most 2 or 1.
  const limit = placed.length >= MANY_POINTS ? 2.5 : 1.49;
  if (placed.length > 1 && placed.every(({ x, y }) => x <= limit && y <= limit)) {
    return "All points lie in the image's left top corner: drag them to their joints.";
  }
  return "";
}

/** Return where a point is, in words. */
export function describePoint({ x, y, missing }) {
  return missing ? "missing" : `${Math.round(x)}, ${Math.round(y)}`;
}

/** Say in which points, mask and status labels differ from earlier ones; "" where in none. */
export function describeChange(before, after) {
  const isEqual = (first, second) =>
    first === second || JSON.stringify(first) === JSON.stringify(second);
  const indices = after.points.flatMap((point, index) =>
    isEqual(point, before.points[index]) ? [] : [index],
  );
  const changes = [];
  if (indices.length === 1) {
    changes.push(`${pointName(indices[0])} (${describePoint(after.points[indices[0]])})`);
  } else if (indices.length) {
    changes.push(`${indices.length} points`);
  }
  if (!isEqual(before.runs, after.runs)) changes.push("the mask");
  if (before.status !== after.status) changes.push(`the status (${STATUS_WORDS[after.status]})`);
  return changes.join(", ");
}

/** Return a point's name in words, such as "thumb, tip". */
export function pointName(index) {
  const [finger, joint] = NAMES[index].split("_");
  return FINGERS.includes(finger) ? `${finger}, ${JOINTS[joint]}` : finger;
}
