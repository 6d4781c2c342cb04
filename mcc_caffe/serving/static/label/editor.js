/**
 * The image that is open: its labels, their history, the chosen point and tool, and the view.
 *
 * Events: "change" when the labels have changed and are to be saved; "choose" when a point was
 * chosen; "tool" when a tool was; "view" when something is to be drawn anew, which is also the case
 * after these three; "release" when what is being dragged or painted ends before the pointer is
 * lifted.
 */

import { KEYPOINT_COUNT } from "../shared/hand.js";
import { History } from "./history.js";
import { describeChange, insideImage, withMissing, withPoint } from "./labels.js";
import { MaskLayer } from "./mask_layer.js";
import { View } from "./view.js";

const ZOOM = 1.25; // of one step

export class Editor extends EventTarget {
  view = new View();
  /** The image as the server described it; null where none is open. */
  image = null;
  pixels = null;
  mask = null;
  tool = "points";
  /** The index of the chosen point. */
  selected = 0;
  /** The brush's width in the image's pixels, and where it is; null where no image is open. */
  brushDiameter = 24;
  brushPosition = null;
  showsMask = true;
  showsPoints = true;
  #history = null;
  #moved = null; // labels of a point that is being dragged
  #isHeld = false; // whether a pointer holds the chosen point
  #isPainting = false;

  /** The labels as they are shown. */
  get labels() {
    return this.#moved ?? this.#history.current;
  }

  /** Whether a point is held or dragged, or the mask painted or erased. */
  get isInGesture() {
    return this.#isHeld || this.#isPainting;
  }

  /** Whether the open image is done, or not to be labelled. */
  get isFinished() {
    return this.image !== null && this.labels.status !== "open";
  }

  get canUndo() {
    return Boolean(this.#history?.canUndo);
  }

  get canRedo() {
    return Boolean(this.#history?.canRedo);
  }

  /**
   * Open an image. `endGesture` comes before, so that no gesture goes on in another image.
   *
   * @param {object} image - as the server describes it.
   * @param {ImageBitmap} pixels - upright.
   * @param {object} labels - those that it has.
   */
  open(image, pixels, labels) {
    this.pixels?.close();
    const isSame = this.image?.key === image.key && this.image.digest === image.digest;
    [this.image, this.pixels] = [image, pixels];
    this.mask = new MaskLayer(image);
    this.mask.setRuns(labels.runs);
    this.#history = new History(labels);
    if (!isSame) {
      this.brushPosition = [image.width / 2, image.height / 2];
      this.view.show(image);
    }
    this.#tell("view");
  }

  /** Choose a point, counted round and round, and bring it onto the canvas. */
  choose(index) {
    this.#select((index + KEYPOINT_COUNT) % KEYPOINT_COUNT);
    this.#revealPoint();
  }

  /** Choose a point that a pointer holds, and may drag; `endMove` lets it go. */
  grab(index) {
    this.#select(index);
    this.#isHeld = true;
  }

  setTool(tool) {
    if (tool === this.tool) return;
    this.tool = tool;
    this.#tell("tool");
    this.#tell("view");
  }

  /** Show the chosen point at (x, y) while it is dragged; `endMove` makes it a change. */
  movePoint(x, y) {
    const position = insideImage(x, y, this.image);
    this.#moved = withPoint(this.#history.current, this.selected, ...position);
    this.#tell("view");
  }

  endMove() {
    this.#isHeld = false;
    if (this.#moved) this.#change(this.#moved);
  }

  /** Move the chosen point by some pixels. Steps that follow each other are undone together. */
  stepPoint(x, y) {
    const point = this.labels.points[this.selected];
    const position = insideImage(point.x + x, point.y + y, this.image);
    this.#change(withPoint(this.labels, this.selected, ...position), `step ${this.selected}`);
    this.#revealPoint();
  }

  toggleMissing() {
    const { missing } = this.labels.points[this.selected];
    this.#change(withMissing(this.labels, this.selected, !missing));
    this.#revealPoint();
  }

  /** Paint or erase from where the brush was to where it is; `endStroke` makes it a change. */
  strokeTo(x, y, isNew) {
    const from = isNew ? [x, y] : this.brushPosition;
    this.brushPosition = [x, y];
    this.#isPainting = true;
    this.mask.stroke(from, [x, y], this.brushDiameter, this.tool === "brush" ? 1 : 0);
    this.#tell("view");
  }

  endStroke() {
    if (!this.#isPainting) return;
    this.#isPainting = false;
    this.#change({ ...this.labels, runs: this.mask.runs() });
  }

  /** Make a change of what is being dragged or painted, whose pointer then does nothing more. */
  endGesture() {
    this.endMove();
    this.endStroke();
    this.#tell("release");
  }

  /** Take back what is being dragged or painted, as when a second finger comes down. */
  cancel() {
    this.#moved = null;
    this.#isHeld = this.#isPainting = false;
    this.mask.setRuns(this.labels.runs);
    this.#tell("view");
  }

  /** Move the brush without painting. */
  moveBrush(x, y) {
    this.brushPosition = insideImage(x, y, this.image);
    this.#tell("view");
  }

  /** Move the brush by some pixels without painting, and bring it onto the canvas. */
  stepBrush(x, y) {
    this.moveBrush(this.brushPosition[0] + x, this.brushPosition[1] + y);
    this.view.reveal(...this.brushPosition);
  }

  /** Paint or erase where the brush is, and bring it onto the canvas. */
  dab() {
    this.strokeTo(...this.brushPosition, true);
    this.endStroke();
    this.view.reveal(...this.brushPosition);
  }

  /** Zoom in by some steps, or out where they are below 0; what lies in the middle stays there. */
  zoom(steps) {
    this.view.zoom(ZOOM ** steps);
    this.#tell("view");
  }

  /** Show the whole image. */
  fit() {
    this.view.fit();
    this.#tell("view");
  }

  setStatus(status) {
    this.#change({ ...this.labels, status });
  }

  /** Take back that the image is done or not to be labelled. */
  reopen() {
    if (this.isFinished) this.setStatus("open");
  }

  /** Show the status that the server has saved instead of the one that was sent. */
  correctStatus(status) {
    this.#history.replace({ ...this.#history.current, status });
    this.#tell("view");
  }

  /** Start again from the net's answer; this can be undone. */
  restart() {
    this.#change(this.image.first_labels);
    this.mask.setRuns(this.labels.runs);
  }

  undo() {
    if (this.canUndo) this.#travel(() => this.#history.undo());
  }

  redo() {
    if (this.canRedo) this.#travel(() => this.#history.redo());
  }

  #travel(step) {
    const before = this.#history.current;
    step();
    if (this.labels.runs !== before.runs) this.mask.setRuns(this.labels.runs);
    this.#tell("change");
    this.#tell("view");
  }

  #select(index) {
    this.selected = index;
    this.#tell("choose");
    this.#tell("view");
  }

  #revealPoint() {
    const { x, y } = this.labels.points[this.selected];
    this.view.reveal(x, y);
  }

  /** Make a change of labels, unless they are the same, as after a stroke beside the image. */
  #change(labels, kind = null) {
    this.#moved = null;
    if (describeChange(this.#history.current, labels)) {
      this.#history.push(labels, kind);
      this.#tell("change");
    }
    this.#tell("view");
  }

  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}
