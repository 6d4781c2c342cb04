/** The 21 keypoints of a hand, as mcc_caffe/core/hand.py has them: names, bones and colours. */

export const FINGERS = ["thumb", "index", "middle", "ring", "pinky"];

/** The wrist first, then each finger from its base to its tip. */
export const NAMES = [
  "wrist",
  ...FINGERS.flatMap((finger) => [1, 2, 3, 4].map((joint) => `${finger}_${joint}`)),
];

export const KEYPOINT_COUNT = NAMES.length;

/** Bones as [from, to]: the wrist to every base, then along the finger. */
export const SKELETON = FINGERS.flatMap((_, finger) =>
  [0, 1, 2, 3].map((joint) => [joint === 0 ? 0 : 4 * finger + joint, 4 * finger + joint + 1]),
);

/** RGB: thumb blue, index cyan, middle green, ring brown, pinky purple. */
export const FINGER_COLOURS = [
  [30, 80, 230],
  [20, 210, 220],
  [40, 180, 60],
  [165, 90, 40],
  [150, 40, 190],
];
export const WRIST_COLOUR = [230, 230, 230];
export const MASK_COLOUR = [0, 60, 255];

/** Fewer confident keypoints do not say where the hand is. */
export const ENOUGH_KEYPOINTS = 6;

const LONGEST_BONE = 6; // that a hand may have, in median bones

const FINGER_BASES = [5, 9, 13, 17]; // of all fingers but the thumb

/**
 * Return where a hand points: the direction from its wrist to the middle of its knuckles.
 *
 * @param {number[][]} keypoints - 21 of [x, y, ...].
 * @param {boolean[]} known - for each keypoint, whether it is known.
 * @returns {number | null} degrees clockwise from straight up, -180 to 180; null where the wrist or
 *   all four fingers' knuckles are unknown, or both are at one point.
 */
export function pointingAngle(keypoints, known) {
  const knuckles = FINGER_BASES.filter((base) => known[base]).map((base) => keypoints[base]);
  const [wristX, wristY] = keypoints[0];
  if (!known[0] || knuckles.length === 0) return null;
  const mean = (axis) => knuckles.reduce((sum, point) => sum + point[axis], 0) / knuckles.length;
  const [x, y] = [mean(0) - wristX, mean(1) - wristY];
  return x === 0 && y === 0 ? null : (Math.atan2(x, -y) * 180) / Math.PI;
}

/** Return whether no bone is far longer than the others, as if its ends were of two hands. */
export function hasPlausibleBones(keypoints) {
  const lengths = SKELETON.map(([from, to]) =>
    Math.hypot(keypoints[from][0] - keypoints[to][0], keypoints[from][1] - keypoints[to][1]),
  ).sort((a, b) => a - b);
  return lengths.at(-1) <= (LONGEST_BONE * (lengths[9] + lengths[10])) / 2;
}

/** Return the RGB colour of a keypoint (0..20): its finger's, or the wrist's. */
export function keypointColour(index) {
  return index === 0 ? WRIST_COLOUR : FINGER_COLOURS[Math.floor((index - 1) / 4)];
}

/** Return the colour of a keypoint as CSS writes it. */
export function keypointCss(index) {
  return `rgb(${keypointColour(index).join(" ")})`;
}
