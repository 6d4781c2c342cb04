/**
 * The network, for a page: it runs in a worker, so that the page stays responsive.
 *
 *     const network = await Network.open();
 *     const { answer, image } = await network.look(imageBitmap, imageWindow(width, height));
 *
 * An answer has: keypoints, 21 of [x, y, confidence] in the image's pixels; mask, (S, S)
 * Float32Array, the probability of hand; heatmaps, (22, S, S); cells, S; map, of the image's
 * pixels to input pixels (affine.js); width and height of the image; and seconds,
 * {network, total}.
 */
export class Network {
  #worker;
  #waiting = new Map();
  #failure = null; // why it answers no more
  #nextId = 0;

  /** Start the worker and load the model. */
  static async open() {
    const network = new Network();
    await network.#open();
    return network;
  }

  /** Pass a window of an image through the network.
   *
   * @param {ImageBitmap} image - it goes to the worker; use the one that comes back.
   * @param {{x, y, width, height, turn}} window - as letterbox.js describes it.
   * @param {number} [size] - side of the network's input; undefined for the model's own.
   * @returns {Promise<{answer: object, image: ImageBitmap}>}
   */
  look(image, window, size) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = (this.#nextId += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ type: "look", id, image, window, size }, [image]);
    });
  }

  #open() {
    const url = new URL("./network_worker.js", import.meta.url);
    this.#worker = new Worker(url, { type: "module" });
    return new Promise((resolve, reject) => {
      this.#worker.onerror = ({ message }) => {
        // It has no message where the worker's module, or one that it imports, cannot be loaded.
        const failure = message
          ? `the network's thread has failed (${message}): load the page again`
          : `${url.pathname} or a module that it imports cannot be loaded: ` +
            "check that the server runs, then load the page again";
        reject(new Error(failure));
        this.#fail(new Error(failure));
      };
      this.#worker.onmessage = ({ data }) => {
        if (data.type === "opened") {
          /** What computes, in words, and the content of model.json. */
          [this.engine, this.model] = [data.engine, data.model];
          resolve();
        } else if (data.id === null) {
          reject(new Error(data.reason));
        } else {
          this.#settle(data);
        }
      };
      this.#worker.postMessage({ type: "open" });
    });
  }

  /** End the worker; what waits for it is rejected, and whatever is asked later. */
  #fail(error) {
    this.#worker.terminate();
    this.#failure = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #settle({ type, id, image, answer, reason }) {
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (type === "answer") resolve({ answer, image });
    else reject(new Error(reason));
  }
}
