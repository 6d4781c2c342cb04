/** What was changed, so that it can be undone and done again. */

import { describeChange } from "./labels.js";

const MERGED_MILLISECONDS = 1000;
const LONGEST = 500; // states that are kept

/** A list of states, of which one is current. */
export class History {
  #states;
  #index = 0;
  #lastKind = null;
  #lastTime = 0;

  /** @param {object} state - the first one. */
  constructor(state) {
    this.#states = [state];
  }

  get current() {
    return this.#states[this.#index];
  }

  get canUndo() {
    return this.#index > 0;
  }

  get canRedo() {
    return this.#index < this.#states.length - 1;
  }

  /**
   * Make a state the current one; what was undone is forgotten, and so are merged changes that lead
   * back to the state before them.
   *
   * @param {object} state
   * @param {string | null} kind - changes of one kind that follow each other within a second are
   *     one, such as steps of a point by the arrow keys; null for a change of its own.
   */
  push(state, kind = null) {
    const now = performance.now();
    const isMerged =
      kind !== null && kind === this.#lastKind && now - this.#lastTime < MERGED_MILLISECONDS;
    this.#states.length = this.#index + 1;
    if (isMerged && this.#index > 0) this.#states.pop();
    const isBack = !describeChange(this.#states.at(-1), state);
    if (!isBack) this.#states.push(state);
    if (this.#states.length > LONGEST) this.#states.shift();
    this.#index = this.#states.length - 1;
    [this.#lastKind, this.#lastTime] = [isBack ? null : kind, now];
  }

  /** Replace the current state, which is no change of the person's. */
  replace(state) {
    this.#states[this.#index] = state;
  }

  /** Go back a state; `canUndo` says whether there is one. */
  undo() {
    this.#index -= 1;
    this.#lastKind = null;
  }

  /** Go forth a state; `canRedo` says whether there is one. */
  redo() {
    this.#index += 1;
    this.#lastKind = null;
  }
}
