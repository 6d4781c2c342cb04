/**
 * The keys of the page. They act while the image has the focus, so that they keep their own meaning
 * on all else; Ctrl Z and Ctrl Y act everywhere. What was clicked gives the focus back to the
 * image.
 */

const STEP = 1; // pixels of the image
const LONG_STEP = 10;
const SINGLE_KEYS = [" ", "m", "n", "p", "x"]; // which act once while they are held, as Enter does
const CONTROLS = "button, summary, input, label";
// After these a person goes on in the image. Next, Done and No hand are pressed again and again.
const CHOICES = "[data-tool], li button";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./editor.js").Editor} editor
 * @param {Record<string, () => void>} actions - of keys that do more than change the editor:
 *     next, previous, done, none, undo, redo.
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
    enter: actions.done,
  };

  document.addEventListener("keydown", (event) => {
    const isOnImage = event.target === canvas;
    const key = event.key.toLowerCase();
    if (event.repeat && (key === "enter" || (isOnImage && SINGLE_KEYS.includes(key)))) {
      event.preventDefault(); // Enter also on a button, which it would press again
      return;
    }
    if (!editor.image || event.altKey || event.target.closest("dialog")) return;
    const hasControl = event.ctrlKey || event.metaKey;
    const action = hasControl ? withControl(event, key) : isOnImage && plain(event, key);
    if (!action) return;
    event.preventDefault();
    // The key would change what is being dragged or painted, such as its tool or its point.
    if (!editor.isInGesture) action();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("dialog")) return;
    const isByKey = event.detail === 0; // most controls then keep the focus
    // A slider has the focus, and is no target, where the pointer has left it.
    const parts = [event.target, document.activeElement];
    if (parts.some((part) => part.closest(isByKey ? CHOICES : CONTROLS))) {
      canvas.focus({ preventScroll: true });
    }
  });

  function withControl(event, key) {
    if (key === "z") return event.shiftKey ? actions.redo : actions.undo;
    return key === "y" ? actions.redo : null;
  }

  function plain(event, key) {
    if (event.key in ARROWS) {
      const length = event.shiftKey ? LONG_STEP : STEP;
      const [x, y] = ARROWS[event.key];
      return () => step(x * length, y * length);
    }
    if (key === " ") return editor.tool === "points" ? null : () => editor.dab();
    return keys[key];
  }

  function step(x, y) {
    if (editor.tool === "points") editor.stepPoint(x, y);
    else editor.stepBrush(x, y);
  }
}
