/**
 * Chooses the side of the network's input of a followed hand, so that enough frames a second are
 * looked at: a slow machine gets a smaller input. A whole image gets the model's own.
 */

const FRAME_SECONDS = 0.058; // of the worker; the page itself takes some more for each frame
const STEP = 16; // pixels between two sides
// At this part of the model's own side a followed hand is found as well as it is in the whole image
// at the model's own; in a smaller input clearly less well.
const SMALLEST_PART = 5 / 6;
// A larger input is taken only where it would take this part of the time, so that noise in the
// measured time does not change the input at every frame.
const MARGIN = 0.85;
const MEMORY = 0.8; // weight of the frames before, in the mean time of a frame

export class Pace {
  #modelSize;
  #smallestSize;
  #size;
  #secondsPerPixel = null;

  /** @param {number} modelSize - side of the model's own input, in pixels. */
  constructor(modelSize) {
    this.#modelSize = this.#size = modelSize;
    this.#smallestSize = STEP * Math.ceil((SMALLEST_PART * modelSize) / STEP);
  }

  /** Note how long the worker took for a frame with an input of `size` x `size` pixels. */
  note(size, seconds) {
    const latest = seconds / size ** 2;
    const before = this.#secondsPerPixel ?? latest;
    this.#secondsPerPixel = MEMORY * before + (1 - MEMORY) * latest;
  }

  /** Return the side, in pixels, of the next input that shows a followed hand. */
  size() {
    const time = (size) => size ** 2 * (this.#secondsPerPixel ?? 0);
    if (time(this.#size) > FRAME_SECONDS) {
      this.#size = Math.max(this.#size - STEP, this.#smallestSize);
    } else if (time(this.#size + STEP) < MARGIN * FRAME_SECONDS) {
      this.#size = Math.min(this.#size + STEP, this.#modelSize);
    }
    return this.#size;
  }
}
