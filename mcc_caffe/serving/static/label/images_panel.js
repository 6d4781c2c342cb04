/** The list of the folder's images, the one of which the net is least sure first. */

import { setText } from "../shared/dom.js";
import { STATUS_WORDS } from "./labels.js";
import { scrollInside } from "./scrolling.js";

const MARKS = { done: "✓", none: "–" };

/**
 * @param {{list: HTMLElement, progress: HTMLElement, passedOver: HTMLElement}} parts
 * @param {(key: string) => void} open - opens an image.
 * @returns {(overview: object, openKey: string | null) => void} shows an overview of the server's.
 */
export function makeImagesPanel({ list, progress, passedOver }, open) {
  const buttons = new Map(); // {key: button}
  let shownKey = null; // of the image that the list was scrolled to

  return ({ images, unreadable, passed_over: others, splits }, openKey) => {
    const items = images.map((image) => {
      const button = buttons.get(image.key) ?? makeButton(image.key);
      setText(button, [image.name, describe(image)].filter(Boolean).join(": "));
      button.ariaCurrent = String(image.key === openKey);
      return button.parentElement;
    });
    if (!isEqual(items, [...list.children])) {
      const focused = document.activeElement;
      list.replaceChildren(...items);
      if (list.contains(focused)) focused.focus({ preventScroll: true });
    }
    if (openKey !== shownKey && buttons.has(openKey)) {
      scrollInside(list, buttons.get(openKey).parentElement);
      shownKey = openKey;
    }
    const looked = images.filter((image) => image.score !== null).length;
    const done = images.filter((image) => image.status === "done").length;
    progress.textContent = [
      `${done} of ${images.length} done (${splits.Train} to train, ${splits.Test} to test).`,
      looked < images.length ? `The net has looked at ${looked}.` : "",
    ].join(" ");
    const reasons = unreadable.map(({ name, fault }) => `${name}: ${fault}`);
    if (others) reasons.push(`Passed over: ${others}`);
    passedOver.replaceChildren(...reasons.map(makeParagraph));
  };

  function makeButton(key) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => open(key));
    document.createElement("li").append(button);
    buttons.set(key, button);
    return button;
  }
}

function describe({ status, score, revision }) {
  if (status !== "open") return `${MARKS[status]} ${STATUS_WORDS[status]}`;
  const sure = score === null ? "" : `${Math.round(100 * score)} % sure`;
  return [revision ? "begun" : "", sure].filter(Boolean).join(", ");
}

function makeParagraph(text) {
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  return paragraph;
}

function isEqual(first, second) {
  return first.length === second.length && first.every((item, index) => item === second[index]);
}
