/**
 * Mouse, pen and fingers on the canvas.
 *
 * One pointer drags a point, paints, or moves the image where no point is near; two fingers, the
 * middle button or the wheel zoom and move the image in every tool. A pointer that does not leave
 * its place only chooses a point.
 */

const REACH = { mouse: 14, pen: 18, touch: 30 }; // CSS pixels within which a point is grabbed
const SLACK = { mouse: 3, pen: 5, touch: 8 }; // so far a pointer goes before it moves the point
const WHEEL_SPEED = 0.0015;
const [LEFT_BUTTON, MIDDLE_BUTTON] = [0, 1];

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./editor.js").Editor} editor
 * @param {() => void} redraw - draws the canvas anew.
 */
export function listenToPointer(canvas, editor, redraw) {
  const pointers = new Map(); // {id: [x, y] on the canvas}
  let action = null; // "hold" and then "point", "stroke", "pan" or "pinch"
  let start = [0, 0]; // where the pointer that holds a point came down
  let offset = [0, 0]; // from the pointer to the grabbed point, in the image's pixels

  canvas.addEventListener("pointerdown", (event) => {
    if (!editor.image || pointers.size === 2) return;
    if (event.button !== LEFT_BUTTON && event.button !== MIDDLE_BUTTON) return;
    canvas.focus({ preventScroll: true });
    capture(canvas, event.pointerId);
    const position = positionOf(event);
    pointers.set(event.pointerId, position);
    if (pointers.size === 2) {
      if (editor.isInGesture) editor.cancel();
      action = "pinch";
    } else {
      action = begin(event, position);
    }
    event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!editor.image) return;
    const position = positionOf(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (editor.tool !== "points") editor.moveBrush(...editor.view.toImage(...position));
      return;
    }
    if (action === "pinch") pinch(event.pointerId, before, position);
    else if (action === "pan") editor.view.pan(position[0] - before[0], position[1] - before[1]);
    pointers.set(event.pointerId, position);
    if (action === "hold" && hasLeft(event, position)) action = "point";
    const [x, y] = editor.view.toImage(...position);
    if (action === "point") editor.movePoint(x + offset[0], y + offset[1]);
    else if (action === "stroke") editor.strokeTo(x, y, false);
    redraw();
  });

  for (const type of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(type, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (action === "hold" || action === "point") editor.endMove();
      if (action === "stroke") editor.endStroke();
      action = pointers.size ? "pan" : null;
    });
  }

  editor.addEventListener("release", () => {
    pointers.clear();
    action = null;
  });

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      editor.view.zoom(Math.exp(-event.deltaY * lines * WHEEL_SPEED), ...positionOf(event));
      redraw();
    },
    { passive: false },
  );

  /** Return what a pointer that has come down does from now on. */
  function begin(event, position) {
    if (event.button === MIDDLE_BUTTON) return "pan";
    const [x, y] = editor.view.toImage(...position);
    if (editor.tool !== "points") {
      editor.strokeTo(x, y, true);
      return "stroke";
    }
    const index = nearestPoint(editor, position, REACH[event.pointerType] ?? REACH.mouse);
    if (index === null) return "pan";
    editor.grab(index);
    const point = editor.labels.points[index];
    offset = [point.x - x, point.y - y];
    start = position;
    return "hold";
  }

  /** Tell whether a pointer has gone so far from its start that it is to move the point. */
  function hasLeft(event, [x, y]) {
    return Math.hypot(x - start[0], y - start[1]) >= (SLACK[event.pointerType] ?? SLACK.mouse);
  }

  /** Zoom and move the image by two fingers, of which one has moved. */
  function pinch(id, before, position) {
    const [, other] = [...pointers].find(([otherId]) => otherId !== id);
    const middle = (point) => [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2];
    const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    const [from, to] = [middle(before), middle(position)];
    editor.view.zoom(distance(position) / distance(before), ...from);
    editor.view.pan(to[0] - from[0], to[1] - from[1]);
  }
}

/** Return the index of the point nearest to a position on the canvas, null where none is near. */
function nearestPoint(editor, [x, y], reach) {
  if (!editor.showsPoints) return null;
  let nearest = null;
  let shortest = reach;
  editor.labels.points.forEach((point, index) => {
    const [px, py] = editor.view.toCanvas(point.x, point.y);
    const distance = Math.hypot(px - x, py - y);
    // Of points that lie over each other the chosen one is taken.
    if (distance < shortest || (distance <= shortest && index === editor.selected)) {
      [nearest, shortest] = [index, distance];
    }
  });
  return nearest;
}

function positionOf(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/** Get the moves of a pointer also where it leaves the canvas. */
function capture(canvas, pointerId) {
  try {
    canvas.setPointerCapture(pointerId);
  } catch {
    // the pointer has been lifted already
  }
}
