/** The keypoints as JSON, in the form that `mcc_caffe.infer` writes for an image. */

import { boxAround } from "../shared/affine.js";
import { STRIDE, upsample } from "../shared/heatmaps.js";
import { ENOUGH_KEYPOINTS, NAMES } from "../shared/hand.js";
import { isHandPresent, score } from "./presence.js";

const PROGRAM = "mcc_caffe.web";
const ROUNDING = 1e-6; // pixels, by which a map may miss the edge of the input

/** Return the name of an image's report: that of the image, without what browsers change. */
export function reportName(name) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[\p{C}"*/:<>?\\|]/gu, "_");
  return `${stem.replace(/^[\s.~]+|\s+$/g, "") || "keypoints"}.json`;
}

/**
 * Return the report of an answer (network.js) as text.
 *
 * @param {object} answer
 * @param {object} about - `present` is as presence() returns it; a keypoint is confident above
 *   `threshold`, whatever the page counts as present.
 */
export function reportJson(answer, { name, present, threshold, engine, weights }) {
  const report = {
    program: PROGRAM,
    image: name,
    width: answer.width,
    height: answer.height,
    weights,
    engine,
    method: "single pass",
    levels: null,
    looks: 1,
    score: rounded(score(answer.keypoints), 4),
    hand_present: isHandPresent(present),
    box: isHandPresent(present) ? keypointsBox(answer.keypoints, threshold) : null,
    keypoints: answer.keypoints.map(([x, y, confidence], k) =>
      present[k]
        ? { name: NAMES[k], x: rounded(x, 2), y: rounded(y, 2), confidence: rounded(confidence, 4) }
        : null,
    ),
    mask_box: isHandPresent(present) ? maskBox(answer) : null,
    seconds: {
      network: rounded(answer.seconds.network, 4),
      total: rounded(answer.seconds.total, 4),
    },
  };
  return JSON.stringify(report, null, 1);
}

/**
 * Return the box around the confident keypoints, or around all where few are confident, as
 * HandPose.box of mcc_caffe/inference/hand_pose.py gives it.
 */
function keypointsBox(keypoints, threshold) {
  const confident = keypoints.filter(([, , confidence]) => confidence > threshold);
  const box = boxAround(confident.length >= ENOUGH_KEYPOINTS ? confident : keypoints);
  const [left, top] = [Math.round(box.left), Math.round(box.top)];
  const [right, bottom] = [Math.round(box.right), Math.round(box.bottom)];
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/**
 * Return the box of the image's pixels where the mask is above 0.5; null where there are none. A
 * pixel that the input does not show is none of them, as in mcc_caffe/inference/pyramid.py.
 */
function maskBox({ mask, cells, map, width, height }) {
  const size = STRIDE * cells;
  const probability = upsample(mask, cells);
  const { a, b, c, d, e, f } = map; // not apply(): each of many pixels would cost an array
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const u = a * x + c * y + e;
      const v = b * x + d * y + f;
      if (Math.min(u, v) <= -ROUNDING || Math.max(u, v) >= size) continue;
      const column = Math.min(Math.round(u), size - 1);
      const row = Math.min(Math.round(v), size - 1);
      if (probability[size * row + column] <= 0.5) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return left > right
    ? null
    : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

function rounded(value, digits) {
  return Number(value.toFixed(digits));
}
