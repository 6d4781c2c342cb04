/** Tells which keypoints are present, as mcc_caffe/inference/presence.py does. */

import { hasPlausibleBones } from "../shared/hand.js";

/**
 * Return whether each keypoint is present: surer than the threshold, where the score and the bones
 * are those of a hand.
 *
 * @param {number[][]} keypoints - 21 of [x, y, confidence].
 * @param {number} threshold
 * @param {number | null} leastScore - of a hand; null for weights that do not say, with which every
 *   image shows a hand.
 * @returns {boolean[]} 21.
 */
export function presence(keypoints, threshold, leastScore) {
  const isHand =
    leastScore === null || (score(keypoints) >= leastScore && hasPlausibleBones(keypoints));
  return keypoints.map(([, , confidence]) => isHand && confidence > threshold);
}

/** Return whether a hand is shown, as `hand_present` says it: whether a keypoint is present. */
export function isHandPresent(present) {
  return present.includes(true);
}

/** Return the mean confidence of the keypoints: how sure the network is of a hand. */
export function score(keypoints) {
  return keypoints.reduce((sum, [, , confidence]) => sum + confidence, 0) / keypoints.length;
}
