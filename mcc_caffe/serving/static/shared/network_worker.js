/**
 * Runs the network in a thread of its own: WebGPU where the browser has it, else WebAssembly.
 *
 * Messages in: {type: "open"}, {type: "look", id, image, window, size}. Messages out:
 * {type: "opened", engine, model}, {type: "answer", id, image, answer}, and
 * {type: "failed", id, reason}; id is null where opening failed.
 */

import { apply, invert } from "./affine.js";
import { reasonOf } from "./errors.js";
import { decode, STRIDE } from "./heatmaps.js";
import { contentOf, networkInput, windowMap } from "./letterbox.js";
import { openSession } from "./session.js";

let network = null;
let lastTurn = Promise.resolve();

// One after another: two overlapping runs of a session would block WebGPU for ever.
self.onmessage = ({ data }) => {
  lastTurn = lastTurn.then(() => respond(data));
};

async function respond(data) {
  try {
    if (data.type === "open") {
      network = await openSession();
      self.postMessage({ type: "opened", engine: network.engine, model: network.model });
    } else {
      const answer = await look(data.image, data.window, data.size ?? network.model.input_size);
      self.postMessage({ type: "answer", id: data.id, image: data.image, answer }, [
        data.image,
        answer.mask.buffer,
        answer.heatmaps.buffer,
      ]);
    }
  } catch (error) {
    self.postMessage({ type: "failed", id: data.id ?? null, reason: reasonOf(error) });
  }
}

/** Pass a window of an image through the network; see network.js for the answer. */
async function look(image, window, size) {
  const start = performance.now();
  const { width, height } = image;
  const map = windowMap(window, width, height, size);
  const input = networkInput(image, width, height, map, size);
  const networkStart = performance.now();
  const { mask, heatmaps } = await network.run(input, size);
  const networkSeconds = (performance.now() - networkStart) / 1000;
  const cells = size / STRIDE;
  const inputToImage = invert(map);
  const content = contentOf(map, width, height, size);
  const clipped = (value, length) => Math.min(Math.max(value, 0), length - 1);
  const keypoints = decode(heatmaps, cells, content).map(([inputX, inputY, confidence]) => {
    const [x, y] = apply(inputToImage, inputX, inputY);
    return [clipped(x, width), clipped(y, height), confidence];
  });
  const seconds = { network: networkSeconds, total: (performance.now() - start) / 1000 };
  return { keypoints, mask, heatmaps, cells, map, width, height, seconds };
}
