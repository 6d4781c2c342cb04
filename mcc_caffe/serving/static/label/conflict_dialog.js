/** The dialog that asks whose labels of an image count: this tab's or the server's. */

import { element } from "../shared/dom.js";
import { loadImage } from "./server.js";

/**
 * Ask about each of a saver's conflicts, one after the other.
 *
 * @param {import("./saver.js").Saver} saver
 * @param {(key: string, keepsMine: boolean) => Promise<void>} showSettled - shows the labels of an
 *     image of which the conflict has ended.
 */
export function listenToConflicts(saver, showSettled) {
  const dialog = element("conflict");
  saver.addEventListener("conflict", () => askNext());
  dialog.addEventListener("close", () => {
    if (!dialog.returnValue) askNext(); // it was left without an answer, as by Escape
  });

  /** Ask, once the conflict before is answered; `problem` says what kept this one from ending. */
  function askNext(problem = "") {
    const [conflict] = saver.conflicts;
    if (dialog.open || !conflict) return;
    const { key, message, isFileChanged } = conflict;
    element("conflict-title").textContent = isFileChanged
      ? "The image has changed"
      : "Changed in another tab";
    element("conflict-message").textContent = problem || message;
    element("load-theirs").textContent = isFileChanged
      ? "Load the image"
      : "Load the other labels";
    element("keep-mine").hidden = isFileChanged;
    element("load-theirs").onclick = () => settle(key, false);
    element("keep-mine").onclick = () => settle(key, true);
    dialog.returnValue = "";
    dialog.showModal();
  }

  /** End a conflict between this tab's labels of an image and those of the server. */
  async function settle(key, keepsMine) {
    dialog.close("answered");
    let problem = "";
    try {
      if (keepsMine) saver.keepMine(key, (await loadImage(key)).revision);
      else saver.drop(key);
      await showSettled(key, keepsMine);
    } catch (error) {
      problem = error.message;
    }
    askNext(problem);
  }
}
