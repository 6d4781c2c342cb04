/** The keypoints as JSON, in the form that `mcc_caffe.infer` writes for an image. */

import { STRIDE, upsample } from "../shared/heatmaps.js";
import { NAMES } from "../shared/hand.js";
import { contentOf } from "../shared/letterbox.js";
import { isHandPresent, score } from "./presence.js";

const PROGRAM = "mcc_caffe.web";

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
 * Return the box of the mask above 0.5, in pixels of the picture; null where no part of the picture
 * is in the mask, as what lies beside the picture does not count.
 */
function maskBox({ mask, cells, map, width, height }) {
  const size = STRIDE * cells;
  const probability = upsample(mask, cells);
  let [left, top, right, bottom] = [size, size, -1, -1];
  const content = contentOf(map, width, height, size);
  for (let y = content.y; y < content.y + content.height; y += 1) {
    for (let x = content.x; x < content.x + content.width; x += 1) {
      if (probability[y * size + x] <= 0.5) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
  }
  if (right < 0) return null;
  const inPicture = (value, shift, length) =>
    Math.min(Math.max(Math.round((value - shift) / map.scale), 0), length - 1);
  const [x, y] = [inPicture(left, map.x, width), inPicture(top, map.y, height)];
  const [lastX, lastY] = [inPicture(right, map.x, width), inPicture(bottom, map.y, height)];
  return { x, y, width: lastX - x + 1, height: lastY - y + 1 };
}

function rounded(value, digits) {
  return Number(value.toFixed(digits));
}
