/**
 * Sends changes to the server, one at a time and in their order, until each is saved.
 *
 * Events: "state" whenever `state`, `problem` or `refusals` changes; "saved" with {key, revision,
 * status, note, labels}; "conflict" where another tab has saved since, or the picture's file has
 * changed: the changes wait until `keepMine` or `drop`.
 */

import { ServerError, saveLabels } from "./server.js";

const FIRST_WAIT = 500; // milliseconds after which a change is sent again
const LONGEST_WAIT = 8000;
const CONFLICT = 409;
const FILE_CHANGED = 412;

export class Saver extends EventTarget {
  /** Why nothing can be saved at the moment; "" where all is well. */
  problem = "";
  #revisions = new Map(); // of each picture, as far as this page knows
  #waiting = new Map(); // {key: {digest, labels}}, not yet sent
  #blocked = new Map(); // {key: {digest, labels, status, message}}, in conflict or refused
  #sending = null; // {key, change}
  #isRunning = false;
  #wake = () => {};

  constructor() {
    super();
    window.addEventListener("online", () => this.#wake());
  }

  /** The labels that the server does not take: [{key, message}]. They wait until the next `put`. */
  get refusals() {
    return this.#listBlocked().filter(({ status }) => !isConflict(status));
  }

  /**
   * What is to be asked about: [{key, message, isFileChanged}]. Where the file has changed, the
   * labels are those of other pixels, and cannot be kept.
   */
  get conflicts() {
    return this.#listBlocked().filter(({ status }) => isConflict(status));
  }

  /** "saved", "saving" or "failed". */
  get state() {
    if (this.problem || this.#blocked.size) return "failed";
    return this.isIdle ? "saved" : "saving";
  }

  /** Whether everything is saved. */
  get isIdle() {
    return !this.#waiting.size && !this.#sending && !this.#blocked.size;
  }

  /** Whether changes of a picture are not saved yet. */
  has(key) {
    return this.#waiting.has(key) || this.#sending?.key === key || this.#blocked.has(key);
  }

  /** Return what is not saved yet of a picture, {digest, labels}; undefined where all is. */
  pending(key) {
    const sent = this.#sending?.key === key ? this.#sending.change : undefined;
    return this.#waiting.get(key) ?? this.#blocked.get(key) ?? sent;
  }

  /** Return the revision of a picture that the next change starts from. */
  revision(key) {
    return this.#revisions.get(key);
  }

  /** Take note of the revision of a picture that was loaded. */
  setRevision(key, revision) {
    this.#revisions.set(key, revision);
  }

  /** Save labels; of one picture's the last ones count. */
  put(key, digest, labels) {
    const queue = isConflict(this.#blocked.get(key)?.status) ? this.#blocked : this.#waiting;
    if (queue === this.#waiting) this.#blocked.delete(key);
    queue.set(key, { ...this.#blocked.get(key), digest, labels });
    this.#tell("state");
    this.#run();
  }

  /** Save the changes of a picture that is in conflict over the revision of the other tab. */
  keepMine(key, revision) {
    const { digest, labels } = this.#blocked.get(key);
    this.#blocked.delete(key);
    this.setRevision(key, revision);
    this.put(key, digest, labels);
  }

  /** Forget the changes of a picture that are not saved. */
  drop(key) {
    this.#blocked.delete(key);
    this.#waiting.delete(key);
    if (this.#sending?.key === key) this.#sending = null;
    this.#tell("state");
  }

  #listBlocked() {
    return [...this.#blocked].map(([key, { status, message }]) => {
      return { key, status, message, isFileChanged: status === FILE_CHANGED };
    });
  }

  async #run() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    while (this.#waiting.size) {
      const [key, { digest, labels }] = this.#waiting.entries().next().value;
      this.#waiting.delete(key);
      const change = {
        revision: this.#revisions.get(key) ?? 0,
        digest,
        token: crypto.randomUUID(),
        labels,
      };
      this.#sending = { key, change };
      this.#tell("state");
      await this.#send(key, change);
      this.#sending = null;
      this.#tell("state");
    }
    this.#isRunning = false;
  }

  /** Send one change until there is an answer. It stays the same, so that it is saved once. */
  async #send(key, change) {
    let wait = FIRST_WAIT;
    const isWanted = () => this.#sending?.change === change; // until it is dropped
    while (isWanted()) {
      try {
        const saved = await saveLabels(key, change);
        this.problem = "";
        this.#revisions.set(key, saved.revision);
        this.#tell("saved", { key, labels: change.labels, ...saved });
        return;
      } catch (error) {
        const status = error instanceof ServerError ? error.status : 0;
        if (!isWanted()) break;
        if (status !== 0 && status < 500) {
          this.problem = "";
          this.#block(key, change, status, error.message);
          return;
        }
        this.problem = error.message;
        this.#tell("state");
        await this.#pause(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT);
      }
    }
    this.problem = "";
  }

  #block(key, { digest, labels }, status, message) {
    const newer = this.#waiting.get(key);
    if (!isConflict(status) && newer) return; // what was refused has been replaced already
    this.#waiting.delete(key);
    this.#blocked.set(key, { status, message, ...(newer ?? { digest, labels }) });
    if (isConflict(status)) this.#tell("conflict");
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, milliseconds);
    });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Tell whether a person is to be asked about labels that were refused with this HTTP status. */
function isConflict(status) {
  return status === CONFLICT || status === FILE_CHANGED;
}
