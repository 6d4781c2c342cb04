/** The mask of the open image at full resolution, and the tinted canvas that shows it. */

import { MASK_COLOUR } from "../shared/hand.js";
import { decodeRuns, encodeRuns } from "./runs.js";

const OPACITY = 130; // of 255
const TINT = new Uint32Array(new Uint8ClampedArray([...MASK_COLOUR, OPACITY]).buffer)[0];
const SHOWN_PIXELS = 4e6; // of the canvas at most; of larger masks it leaves pixels out

export class MaskLayer {
  #width;
  #height;
  #mask;
  #step;
  #canvas;
  #context;

  /** @param {{width: number, height: number}} image */
  constructor({ width, height }) {
    [this.#width, this.#height] = [width, height];
    this.#mask = new Uint8Array(width * height);
    this.#step = Math.ceil(Math.sqrt((width * height) / SHOWN_PIXELS));
    this.#canvas = new OffscreenCanvas(
      Math.ceil(width / this.#step),
      Math.ceil(height / this.#step),
    );
    this.#context = this.#canvas.getContext("2d");
  }

  /** Return the mask's run lengths. */
  runs() {
    return encodeRuns(this.#mask);
  }

  /** Show the mask of run lengths. */
  setRuns(runs) {
    decodeRuns(runs, this.#mask);
    this.#redraw(0, 0, this.#width, this.#height);
  }

  /**
   * Paint or erase a straight stroke with round ends.
   *
   * @param {number[]} from - x, y in the image's pixels.
   * @param {number[]} to
   * @param {number} diameter - in pixels.
   * @param {0 | 1} value - 1 paints, 0 erases.
   */
  stroke([x0, y0], [x1, y1], diameter, value) {
    const radius = Math.max(diameter / 2, 0.5);
    const [dx, dy] = [x1 - x0, y1 - y0];
    const squaredLength = dx * dx + dy * dy;
    const left = Math.max(Math.ceil(Math.min(x0, x1) - radius), 0);
    const right = Math.min(Math.floor(Math.max(x0, x1) + radius), this.#width - 1);
    const top = Math.max(Math.ceil(Math.min(y0, y1) - radius), 0);
    const bottom = Math.min(Math.floor(Math.max(y0, y1) + radius), this.#height - 1);
    if (left > right || top > bottom) return;
    for (let y = top; y <= bottom; y += 1) {
      for (let x = left; x <= right; x += 1) {
        const along = squaredLength ? ((x - x0) * dx + (y - y0) * dy) / squaredLength : 0;
        const share = Math.min(Math.max(along, 0), 1);
        const [ex, ey] = [x - x0 - share * dx, y - y0 - share * dy];
        // The narrowest brush may touch no pixel's centre: it has the pixel that it is in.
        const isEnd = x === Math.round(x1) && y === Math.round(y1);
        if (isEnd || ex * ex + ey * ey <= radius * radius) this.#mask[y * this.#width + x] = value;
      }
    }
    this.#redraw(left, top, right - left + 1, bottom - top + 1);
  }

  /** Draw the tint; the context's transform maps pixels of the image to its canvas. */
  draw(context) {
    context.imageSmoothingEnabled = false;
    const [width, height] = [this.#canvas.width * this.#step, this.#canvas.height * this.#step];
    context.drawImage(this.#canvas, 0, 0, width, height);
  }

  /** Copy a rectangle of the mask to the canvas. */
  #redraw(x, y, width, height) {
    const step = this.#step;
    const [left, top] = [Math.floor(x / step), Math.floor(y / step)];
    const right = Math.min(Math.ceil((x + width) / step), this.#canvas.width);
    const bottom = Math.min(Math.ceil((y + height) / step), this.#canvas.height);
    const rectangle = new ImageData(right - left, bottom - top);
    const pixels = new Uint32Array(rectangle.data.buffer);
    let index = 0;
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        if (this.#mask[row * step * this.#width + column * step]) pixels[index] = TINT;
        index += 1;
      }
    }
    this.#context.putImageData(rectangle, left, top);
  }
}
