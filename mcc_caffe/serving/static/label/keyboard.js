/**
 * The keys of the page. They act where what has the focus does not need them itself. What was
 * clicked gives the focus back to the canvas, so that it needs no key.
 */

const STEP = 1; // pixels of the picture
const LONG_STEP = 10;
const TURNING_KEYS = ["enter", "x", "n", "p"]; // that leave the picture, or press a button
const SLIDER_KEYS = ["Home", "End", "PageUp", "PageDown"];
const CONTROLS = "button, summary, input, label";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./editor.js").Editor} editor
 * @param {Record<string, () => void>} actions - of keys that do more than change the editor:
 *     next, previous, done, none.
 */
export function listenToKeys(canvas, editor, actions) {
  const keys = {
    ".": () => editor.choose(editor.selected + 1),
    ",": () => editor.choose(editor.selected - 1),
    m: () => editor.toggleMissing(),
    v: () => editor.setTool("points"),
    b: () => editor.setTool("brush"),
    e: () => editor.setTool("eraser"),
    "+": () => editor.zoom(1),
    "=": () => editor.zoom(1),
    "-": () => editor.zoom(-1),
    0: () => editor.fit(),
    n: actions.next,
    p: actions.previous,
    x: actions.none,
  };

  document.addEventListener("keydown", (event) => {
    if (event.repeat && TURNING_KEYS.includes(event.key.toLowerCase())) {
      event.preventDefault(); // a held key acts once, also on a button, which it would press again
      return;
    }
    if (!editor.picture || event.altKey || needsKey(event.target, event.key)) return;
    const action = event.ctrlKey || event.metaKey ? withControl(event) : plain(event);
    if (!action) return;
    event.preventDefault();
    // The key would change what is being dragged or painted, such as its tool or its point.
    if (!editor.isInGesture) action();
  });

  document.addEventListener("click", (event) => {
    if (event.detail === 0) return; // the keyboard pressed it, and goes on from there
    if (event.target.closest("dialog")) return;
    // A slider has the focus, and is no target, where the pointer has left it.
    const parts = [event.target, document.activeElement];
    if (parts.some((part) => part.closest(CONTROLS))) canvas.focus({ preventScroll: true });
  });

  function withControl(event) {
    const key = event.key.toLowerCase();
    if (key === "z") return () => (event.shiftKey ? editor.redo() : editor.undo());
    return key === "y" ? () => editor.redo() : null;
  }

  function plain(event) {
    if (event.key in ARROWS) {
      const length = event.shiftKey ? LONG_STEP : STEP;
      const [x, y] = ARROWS[event.key];
      return () => step(x * length, y * length);
    }
    if (event.key === " " && event.target === canvas && editor.tool !== "points") return dab;
    if (event.key === "Enter") return actions.done;
    return keys[event.key.toLowerCase()];
  }

  function step(x, y) {
    if (editor.tool === "points") editor.stepPoint(x, y);
    else editor.moveBrush(editor.brushPosition[0] + x, editor.brushPosition[1] + y);
  }

  function dab() {
    editor.strokeTo(...editor.brushPosition, true);
    editor.endStroke();
  }
}

/** Tell whether an element that has the focus needs a key itself. */
function needsKey(target, key) {
  if (target.closest("dialog")) return true;
  const isPressed = target.matches("button, summary, input[type=checkbox]");
  if (isPressed) return key === " " || key === "Enter";
  return target.matches("input[type=range]") && (key in ARROWS || SLIDER_KEYS.includes(key));
}
