/** Where the image lies on the canvas: zoom and pan. Lengths are CSS pixels of the canvas. */

const LARGEST_SCALE = 40; // CSS pixels for one of the image
const FIT_SHARE = 0.96; // of the canvas, that the whole image takes
const REVEAL_MARGIN = 40; // CSS pixels from what is revealed to the canvas's border

export class View {
  /** CSS pixels for one of the image. */
  scale = 1;
  /** Where the image's left-top corner lies. */
  x = 0;
  y = 0;
  #canvas = { width: 1, height: 1 };
  #image = { width: 1, height: 1 };
  #isFitted = true;

  /** Take note of the canvas's size. An image that is shown whole stays so, others stay in view. */
  resize(width, height) {
    this.#canvas = { width, height };
    if (this.#isFitted) this.fit();
    else this.pan(0, 0);
  }

  /** Show another image, whole. */
  show({ width, height }) {
    this.#image = { width, height };
    this.fit();
  }

  /** Show the whole image. */
  fit() {
    this.scale = this.#fitScale();
    this.x = (this.#canvas.width - this.scale * this.#image.width) / 2;
    this.y = (this.#canvas.height - this.scale * this.#image.height) / 2;
    this.#isFitted = true;
  }

  /** Zoom by a factor; what lies at (x, y) of the canvas stays there. Default: its centre. */
  zoom(factor, x = this.#canvas.width / 2, y = this.#canvas.height / 2) {
    const least = this.#fitScale() / 2;
    const scale = Math.min(Math.max(this.scale * factor, least), LARGEST_SCALE);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.pan(0, 0);
  }

  /** Move the image; the middle of the canvas always shows a part of it. */
  pan(x, y) {
    const limit = (start, canvas, image) =>
      Math.min(Math.max(start, canvas / 2 - image), canvas / 2);
    this.x = limit(this.x + x, this.#canvas.width, this.scale * this.#image.width);
    this.y = limit(this.y + y, this.#canvas.height, this.scale * this.#image.height);
    this.#isFitted = false;
  }

  /** Move an enlarged image just so far that one of its pixels lies on the canvas. */
  reveal(x, y) {
    if (this.#isFitted) return;
    const shift = (position, length) =>
      Math.min(Math.max(position, REVEAL_MARGIN), length - REVEAL_MARGIN) - position;
    const [canvasX, canvasY] = this.toCanvas(x, y);
    this.pan(shift(canvasX, this.#canvas.width), shift(canvasY, this.#canvas.height));
  }

  /** Return the image's pixel, with fractions, at (x, y) of the canvas. */
  toImage(x, y) {
    return [(x - this.x) / this.scale - 0.5, (y - this.y) / this.scale - 0.5];
  }

  /** Return the place on the canvas of a pixel's centre. */
  toCanvas(x, y) {
    return [this.x + (x + 0.5) * this.scale, this.y + (y + 0.5) * this.scale];
  }

  #fitScale() {
    const { width, height } = this.#image;
    return Math.min(
      (FIT_SHARE * this.#canvas.width) / width,
      (FIT_SHARE * this.#canvas.height) / height,
      LARGEST_SCALE,
    );
  }
}
