/** The keypoints as JSON, in the form that `mcc_caffe.infer` writes for an image. */

import { apply, boxAround, invert } from "../shared/affine.js";
import { STRIDE, upsample } from "../shared/heatmaps.js";
import { NAMES } from "../shared/hand.js";
import { contentOf } from "../shared/letterbox.js";
import { isHandPresent, score } from "./presence.js";

const PROGRAM = "mcc_caffe.web";

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

/**
 * Return the box of the mask above 0.5, in pixels of the image; null where no part of the image is
 * in the mask, as what lies beside the image does not count.
 */
function maskBox({ mask, cells, map, width, height }) {
  const size = STRIDE * cells;
  const probability = upsample(mask, cells);
  const inputToImage = invert(map);
  const content = contentOf(map, width, height, size);
  const points = [];
  for (let inputY = content.y; inputY < content.y + content.height; inputY += 1) {
    for (let inputX = content.x; inputX < content.x + content.width; inputX += 1) {
      if (probability[inputY * size + inputX] <= 0.5) continue;
      const [x, y] = apply(inputToImage, inputX, inputY).map(Math.round);
      if (x >= 0 && x < width && y >= 0 && y < height) points.push([x, y]);
    }
  }
  if (points.length === 0) return null;
  const { left, top, right, bottom } = boxAround(points);
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

function rounded(value, digits) {
  return Number(value.toFixed(digits));
}
