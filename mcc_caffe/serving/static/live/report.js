/** The keypoints as JSON, in the form that `mcc_caffe.infer` writes for an image. */

import { apply, boxAround } from "../shared/affine.js";
import { STRIDE, upsample } from "../shared/heatmaps.js";
import { NAMES } from "../shared/hand.js";
import { isHandPresent, score } from "./presence.js";

const PROGRAM = "mcc_caffe.web";
const ROUNDING = 1e-6; // pixels, by which a map may miss the edge of the input

/** Return the name of an image's report: that of the image, without what browsers change. */
export function reportName(name) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[\p{C}"*/:<>?\\|]/gu, "_");
  return `${stem.replace(/^[\s.~]+|\s+$/g, "") || "keypoints"}.json`;
}

/** Return the report of an answer (network.js) as text; `present` is as presence() returns it. */
export function reportJson(answer, { name, present, engine, weights }) {
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

/** Return the box of the hand's pixels; null where the mask is empty. */
function maskBox(answer) {
  const { left, top, right, bottom } = boxAround(handPixels(answer));
  return left > right
    ? null
    : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/**
 * Yield [x, y] of the image's pixels where the mask is above 0.5. A pixel that the input does not
 * show is none of them, as in mcc_caffe/inference/pyramid.py.
 */
function* handPixels({ mask, cells, map, width, height }) {
  const size = STRIDE * cells;
  const probability = upsample(mask, cells);
  const isShown = (position) => position > -ROUNDING && position < size;
  const nearest = (position) => Math.min(Math.round(position), size - 1);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [u, v] = apply(map, x, y);
      if (!isShown(u) || !isShown(v)) continue;
      if (probability[size * nearest(v) + nearest(u)] > 0.5) yield [x, y];
    }
  }
}

function rounded(value, digits) {
  return Number(value.toFixed(digits));
}
