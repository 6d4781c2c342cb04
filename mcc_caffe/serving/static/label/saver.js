/**
 * Sends changes to the server until each is saved: those of one image one at a time and in their
 * order. An image whose changes cannot be saved does not hold back those of others.
 *
 * Events: "state" whenever `state` or `failures` changes; "saved" with {key, labels, revision,
 * status, note, splits}, before a "state"; "conflict" where another tab has saved since, or the
 * image's file has changed: the changes wait until `keepMine` or `drop`.
 */

import { ServerError, saveLabels } from "./server.js";

const FIRST_WAIT = 500; // milliseconds after which a change is sent again
const LONGEST_WAIT = 8000;
const CONFLICT = 409;
const FILE_CHANGED = 412;

export class Saver extends EventTarget {
  #revisions = new Map(); // of each image, as far as this page knows
  #waiting = new Map(); // {key: {digest, labels}}, not yet sent
  #blocked = new Map(); // {key: {digest, labels, status, message}}, in conflict or refused
  #sending = new Map(); // {key: change}, until there is an answer
  #failing = new Map(); // {key: {status, message}}, of what is sent again

  /**
   * What cannot be saved at the moment: [{key, message}]. What the server refuses waits until the
   * next `put`, all else is sent again. The key is null where the server does not answer.
   */
  get failures() {
    const failing = [...this.#failing].map(([key, { status, message }]) => {
      return { key: status === 0 ? null : key, message };
    });
    const refused = this.#listBlocked().filter(({ status }) => !isConflict(status));
    return [...failing, ...refused];
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
    if (this.#failing.size || this.#blocked.size) return "failed";
    return this.isIdle ? "saved" : "saving";
  }

  /** Whether everything is saved. */
  get isIdle() {
    return !this.#waiting.size && !this.#sending.size && !this.#blocked.size;
  }

  /** Whether changes of an image are not saved yet. */
  has(key) {
    return this.pending(key) !== undefined;
  }

  /** Return what is not saved yet of an image, {digest, labels}; undefined where all is. */
  pending(key) {
    return this.#waiting.get(key) ?? this.#blocked.get(key) ?? this.#sending.get(key);
  }

  /** Return the revision of an image that the next change starts from. */
  revision(key) {
    return this.#revisions.get(key);
  }

  /** Take note of the revision of an image that was loaded. */
  setRevision(key, revision) {
    this.#revisions.set(key, revision);
  }

  /** Save labels; of one image's the last ones count. */
  put(key, digest, labels) {
    const queue = isConflict(this.#blocked.get(key)?.status) ? this.#blocked : this.#waiting;
    if (queue === this.#waiting) this.#blocked.delete(key);
    queue.set(key, { ...this.#blocked.get(key), digest, labels });
    this.#tell("state");
    this.#run(key);
  }

  /** Save the changes of an image that is in conflict over the revision of the other tab. */
  keepMine(key, revision) {
    const { digest, labels } = this.#blocked.get(key);
    this.#blocked.delete(key);
    this.setRevision(key, revision);
    this.put(key, digest, labels);
  }

  /** Forget the changes of an image that are not saved. */
  drop(key) {
    this.#blocked.delete(key);
    this.#waiting.delete(key);
    this.#sending.delete(key);
    this.#failing.delete(key);
    this.#tell("state");
  }

  #listBlocked() {
    return [...this.#blocked].map(([key, { status, message }]) => {
      return { key, status, message, isFileChanged: status === FILE_CHANGED };
    });
  }

  /** Send the changes of an image; those of other images do not wait for them. */
  async #run(key) {
    if (this.#sending.has(key)) return;
    while (this.#waiting.has(key)) {
      const { digest, labels } = this.#waiting.get(key);
      this.#waiting.delete(key);
      const change = {
        revision: this.#revisions.get(key) ?? 0,
        digest,
        token: crypto.randomUUID(),
        labels,
      };
      this.#sending.set(key, change);
      this.#tell("state");
      const saved = await this.#send(key, change);
      if (this.#sending.get(key) !== change) return; // it was dropped, and others may be sent
      this.#sending.delete(key);
      this.#failing.delete(key);
      if (saved) this.#tell("saved", { key, labels, ...saved });
      this.#tell("state");
    }
  }

  /**
   * Send one change until there is an answer, and return what was saved; null where nothing was.
   * It stays the same, so that it is saved once.
   */
  async #send(key, change) {
    let wait = FIRST_WAIT;
    const isWanted = () => this.#sending.get(key) === change; // until it is dropped
    while (isWanted()) {
      try {
        const saved = await saveLabels(key, change);
        this.#revisions.set(key, saved.revision);
        return saved;
      } catch (error) {
        const status = error instanceof ServerError ? error.status : 0;
        if (!isWanted()) return null;
        if (error instanceof ServerError && !error.isPassing) {
          this.#block(key, change, status, error.message);
          return null;
        }
        this.#failing.set(key, { status, message: error.message });
        this.#tell("state");
        await pause(wait);
        wait = Math.min(2 * wait, LONGEST_WAIT);
      }
    }
    return null;
  }

  #block(key, { digest, labels }, status, message) {
    const newer = this.#waiting.get(key);
    if (!isConflict(status) && newer) return; // what was refused has been replaced already
    this.#waiting.delete(key);
    this.#blocked.set(key, { status, message, ...(newer ?? { digest, labels }) });
    if (isConflict(status)) this.#tell("conflict");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Tell whether a person is to be asked about labels that were refused with this HTTP status. */
function isConflict(status) {
  return status === CONFLICT || status === FILE_CHANGED;
}

/** Wait for some time, or until the browser is online again. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end);
  });
}
