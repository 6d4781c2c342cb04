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

/** Return the RGB colour of a keypoint (0..20): its finger's, or the wrist's. */
export function keypointColour(index) {
  return index === 0 ? WRIST_COLOUR : FINGER_COLOURS[Math.floor((index - 1) / 4)];
}

/** Return the colour of a keypoint as CSS writes it. */
export function keypointCss(index) {
  return `rgb(${keypointColour(index).join(" ")})`;
}
