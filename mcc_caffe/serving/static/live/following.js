/**
 * Follows a hand from frame to frame: the next frame's window is a square around this frame's
 * keypoints, turned so that the hand points up. It is wider than that of a second look in
 * mcc_caffe/inference/looks.py, since the hand moves on until the next frame.
 */

import { apply, boxAround, turnAboutCentre } from "../shared/affine.js";
import { ENOUGH_KEYPOINTS, pointingAngle } from "../shared/hand.js";

// The square's side, in longer sides of the keypoints' box; measured with this page's own looks.
const SIDE = 1.8;
const SMALLEST_SIDE = 8; // pixels
// The window stays where it is while the new one differs by less than this part of its side, so
// that a hand at rest does not tremble.
const TOLERANCE = 0.1;
// Likewise it stays turned as it is while the hand's direction differs by less than this.
const TURN_TOLERANCE = 10; // degrees

/**
 * Return the window for the next frame.
 *
 * @param {object} answer - to this frame, as network.js describes it.
 * @param {{x, y, width, height, turn}} window - of this frame, as letterbox.js describes it.
 * @param {boolean[]} present - for each keypoint, whether it counts.
 * @returns {{x, y, width, height, turn} | null} null where no hand is to be followed: all of the
 *   next frame is looked at.
 */
export function nextWindow({ keypoints, width, height }, window, present) {
  const confident = keypoints.filter((_, keypoint) => present[keypoint]);
  if (confident.length < ENOUGH_KEYPOINTS) return null;
  const turn = nextTurn(pointingAngle(keypoints, present), window.turn);
  const turning = turnAboutCentre(turn, width, height);
  const square = squareAround(confident.map(([x, y]) => apply(turning, x, y)));
  const isClose = ["x", "y", "width"].every(
    (name) => Math.abs(square[name] - window[name]) < TOLERANCE * window.width,
  );
  const isStill = turn === window.turn && isClose && window.width === window.height;
  return isStill ? window : { ...square, turn };
}

/** Return by how many degrees the next frame is turned, where a hand points at an angle or null. */
function nextTurn(pointing, turn) {
  const angle = Math.round(pointing ?? turn);
  const difference = Math.abs(angle - turn);
  return Math.min(difference, 360 - difference) < TURN_TOLERANCE ? turn : angle;
}

/** Return {x, y, width, height} of a square with the centre of the keypoints' box. */
function squareAround(keypoints) {
  const box = boxAround(keypoints);
  const [left, top] = [Math.floor(box.left), Math.floor(box.top)];
  const [right, bottom] = [Math.ceil(box.right), Math.ceil(box.bottom)];
  const side = Math.max(Math.ceil(SIDE * Math.max(right - left, bottom - top)), SMALLEST_SIDE);
  return {
    x: (left + right + 1 - side) / 2,
    y: (top + bottom + 1 - side) / 2,
    width: side,
    height: side,
  };
}
