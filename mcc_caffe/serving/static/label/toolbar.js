/** The tools: the buttons above the image and Reopen, the brush's width, and what is shown. */

import { element } from "../shared/dom.js";

// The ids of the boxes that say what is shown, and the editor's properties that hold it.
const SHOWN_PARTS = [
  ["show-mask", "showsMask"],
  ["show-points", "showsPoints"],
];

/**
 * @param {import("./editor.js").Editor} editor
 * @param {Record<string, () => void>} actions - of buttons that do more than change the editor:
 *     next, previous, done, none, undo, redo, redraw.
 * @returns {() => void} shows what the tools can do.
 */
export function makeToolbar(editor, actions) {
  const toolButtons = document.querySelectorAll("[data-tool]");
  const onClick = (id, action) => element(id).addEventListener("click", action);
  for (const id of ["next", "previous", "done", "none", "undo", "redo"]) onClick(id, actions[id]);
  onClick("reopen", () => editor.reopen());
  onClick("restart", () => editor.restart());
  onClick("zoom-in", () => editor.zoom(1));
  onClick("zoom-out", () => editor.zoom(-1));
  onClick("fit", () => editor.fit());
  for (const button of toolButtons) {
    button.addEventListener("click", () => editor.setTool(button.dataset.tool));
  }
  element("width").addEventListener("input", (event) => {
    editor.brushDiameter = Number(event.target.value);
    actions.redraw();
  });
  for (const [id, property] of SHOWN_PARTS) {
    element(id).addEventListener("change", (event) => {
      editor[property] = event.target.checked;
      actions.redraw();
    });
  }

  return () => {
    // A button that becomes disabled would lose the focus.
    element("undo").ariaDisabled = String(!editor.canUndo);
    element("redo").ariaDisabled = String(!editor.canRedo);
    element("reopen").ariaDisabled = String(!editor.isFinished);
    for (const id of ["done", "none", "restart"]) element(id).disabled = !editor.image;
    // After "back" the browser has brought back what these controls were before.
    element("width").value = editor.brushDiameter;
    for (const [id, property] of SHOWN_PARTS) element(id).checked = editor[property];
    for (const button of toolButtons) {
      button.ariaPressed = String(button.dataset.tool === editor.tool);
    }
  };
}
