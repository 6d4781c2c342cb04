/** The list of the 21 points, by which keyboard and screen reader choose them. */

import { KEYPOINT_COUNT, keypointCss } from "../shared/hand.js";
import { describePoint, pointName } from "./labels.js";
import { scrollInside } from "./scrolling.js";

/**
 * @param {HTMLElement} list
 * @param {HTMLButtonElement} missingButton
 * @param {import("./editor.js").Editor} editor
 * @returns {() => void} shows the editor's points.
 */
export function makePointsPanel(list, missingButton, editor) {
  const buttons = Array.from({ length: KEYPOINT_COUNT }, (_, index) => {
    const button = document.createElement("button");
    button.type = "button";
    const mark = document.createElement("i");
    mark.style.background = keypointCss(index);
    const text = document.createElement("span");
    text.textContent = pointName(index);
    button.append(mark, text);
    button.addEventListener("click", () => editor.choose(index));
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
    return button;
  });
  missingButton.addEventListener("click", () => editor.toggleMissing());

  return () => {
    for (const button of [missingButton, ...buttons]) button.disabled = !editor.image;
    if (!editor.image) return;
    const { points } = editor.labels;
    buttons.forEach((button, index) => {
      const isChosen = index === editor.selected;
      if (isChosen && button.ariaPressed !== "true") scrollInside(list, button.parentElement);
      button.ariaPressed = String(isChosen);
      button.lastChild.textContent = `${pointName(index)}: ${describePoint(points[index])}`;
    });
    missingButton.ariaPressed = String(points[editor.selected].missing);
  };
}
