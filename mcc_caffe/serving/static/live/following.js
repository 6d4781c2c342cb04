/**
 * Follows a hand from frame to frame: the next frame's window is a square around this frame's
 * keypoints. It is wider than that of a second look in mcc_caffe/inference/looks.py, since the hand
 * moves on until the next frame.
 */

// The square's side, in longer sides of the keypoints' box; measured with this page's own looks.
const SIDE = 1.8;
// With fewer keypoints the hand is not followed, and the whole next frame is looked at.
const ENOUGH_KEYPOINTS = 6;
const SMALLEST_SIDE = 8; // pixels
// The window stays where it is while the new one differs by less than this part of its side, so
// that a hand at rest does not tremble.
const TOLERANCE = 0.1;

/**
 * Return the window for the next frame.
 *
 * @param {object} answer - to this frame, as network.js describes it.
 * @param {{x, y, width, height}} window - of this frame.
 * @param {boolean[]} present - for each keypoint, whether it counts.
 * @returns {{x, y, width, height} | null} null where no hand is to be followed.
 */
export function nextWindow(answer, window, present) {
  const confident = answer.keypoints.filter((_, keypoint) => present[keypoint]);
  if (confident.length < ENOUGH_KEYPOINTS) return null;
  const square = squareAround(confident);
  const isClose = ["x", "y", "width"].every(
    (name) => Math.abs(square[name] - window[name]) < TOLERANCE * window.width,
  );
  return isClose && window.width === window.height ? window : square;
}

/** Return a square window with the centre of the keypoints' box. */
export function squareAround(keypoints) {
  const [left, top, right, bottom] = [
    Math.floor(Math.min(...keypoints.map(([x]) => x))),
    Math.floor(Math.min(...keypoints.map(([, y]) => y))),
    Math.ceil(Math.max(...keypoints.map(([x]) => x))),
    Math.ceil(Math.max(...keypoints.map(([, y]) => y))),
  ];
  const side = Math.max(Math.ceil(SIDE * Math.max(right - left, bottom - top)), SMALLEST_SIDE);
  return {
    x: (left + right + 1 - side) / 2,
    y: (top + bottom + 1 - side) / 2,
    width: side,
    height: side,
  };
}
