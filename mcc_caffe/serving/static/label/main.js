/** Puts the labelling page together: opens images, saves changes, and shows both. */

import { element, setText } from "../shared/dom.js";
import { listenToConflicts } from "./conflict_dialog.js";
import { Editor } from "./editor.js";
import { listenToKeys } from "./keyboard.js";
import { describeChange, describePoint, findGap, pointName, STATUS_WORDS } from "./labels.js";
import { paint } from "./painter.js";
import { makeImagesPanel } from "./images_panel.js";
import { listenToPointer } from "./pointer.js";
import { makePointsPanel } from "./points_panel.js";
import { Saver } from "./saver.js";
import { loadImage, loadOverview, loadPixels } from "./server.js";
import { makeToolbar } from "./toolbar.js";

const REFRESH_BUSY = 500; // milliseconds between looks at the list while the net is at work
const REFRESH_IDLE = 10000;
const LONGEST_START = 5000; // after which the least sure image so far is opened
const RETRY = 1000; // after which an image or the list is asked for again that was not there
const SHORTEST_LOOK = 400; // before which nobody has looked at an image, as in a double click
const THEIRS_LOADED = "Loaded again: these are the labels of the other tab.";
const SAVED_WORDS = { saved: "Saved", saving: "Saving…", failed: "Not saved" };

const CHANGED_ADVICE =
  "look at all of its labels. What was not saved of the old image's is dropped.";

const canvas = element("image");
const editor = new Editor();
const saver = new Saver();
let overview = { images: [], unreadable: [], passed_over: "", splits: { Train: 0, Test: 0 } };
const unloaded = new Set(); // keys of images that could not be opened
let wantedKey = null; // of the image that is open or being opened
let loadings = 0; // of images so far; of two that overlap the later one counts
let openedAt = 0; // when the open image was first shown, as performance.now() counts
let focusedAt = 0; // when the canvas last got the focus, counted likewise
let isDue = false; // whether the editor is drawn before the next frame
let listProblem = ""; // why the list could not be loaded
let spoken = ""; // what was last said of the chosen point

const actions = {
  next: () => turn(1),
  previous: () => turn(-1),
  done: () => finish("done"),
  none: () => finish("none"),
  undo: () => travel("Undone", () => editor.undo()),
  redo: () => travel("Redone", () => editor.redo()),
  redraw,
};

const showPoints = makePointsPanel(element("points"), element("missing"), editor);
const showImages = makeImagesPanel(
  { list: element("images"), progress: element("progress"), passedOver: element("passed-over") },
  open,
);
const showTools = makeToolbar(editor, actions);

/** Show the editor before the next frame. */
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    paint(canvas, editor);
    showPoints();
    showTools();
  });
}

function say(text) {
  element("message").textContent = text;
}

/** Say what each refresh says again; a screen reader reads it only where it has changed. */
function keepSaying(text) {
  setText(element("message"), text);
}

/** Open an image, unless it is open or being opened. */
function open(key) {
  if (key === wantedKey) return;
  wantedKey = key;
  if (key !== editor.image?.key) return load(key);
  loadings += 1; // which drops the one that is being opened
  return say("");
}

/** Load an image and show it; the note says why it is loaded again. */
async function load(key, note = "") {
  const loading = (loadings += 1);
  try {
    const { image, pixels } = await loadNewest(key);
    if (loading !== loadings) return pixels.close(); // another one was asked for meanwhile
    editor.endGesture(); // what it changed is unsaved, also where this image is loaded again
    const isReload = key === editor.image?.key;
    const known = saver.pending(key) ?? (isReload ? editor.image : image);
    const isFileChanged = known.digest !== image.digest;
    if (isFileChanged) saver.drop(key); // labels of other pixels
    const unsaved = saver.pending(key);
    if (!unsaved) saver.setRevision(key, image.revision);
    if (!isReload || isFileChanged) openedAt = performance.now();
    editor.open(image, pixels, unsaved?.labels ?? image.labels);
    showAddress();
    if (document.activeElement === document.body) canvas.focus({ preventScroll: true });
    say(isFileChanged ? `The image ${image.name} is another one now: ${CHANGED_ADVICE}` : note);
  } catch (error) {
    if (loading !== loadings) return;
    say(error.isPassing ? error.message : `${nameOf(key)}: ${error.message}`);
    if (error.isPassing) {
      setTimeout(() => loading === loadings && load(key, note), RETRY);
    } else {
      unloaded.add(key);
      showAddress();
      wantedKey = editor.image?.key ?? null;
      if (!wantedKey) openFirst();
    }
  }
  showEverything();
}

/** Load an image with its pixels; again where changes of this page were saved meanwhile. */
async function loadNewest(key) {
  for (;;) {
    const revision = saver.revision(key);
    const image = await loadImage(key);
    const pixels = await loadPixels(key);
    if (saver.has(key) || saver.revision(key) === revision) return { image, pixels };
    pixels.close();
  }
}

/** Let the address name the open image. */
function showAddress() {
  if (editor.image) history.replaceState(null, "", `#${editor.image.key}`);
}

/** Return the image that the address names. */
function addressedImage(images) {
  return images.find((image) => `#${image.key}` === location.hash);
}

/** Open the image that the address names or, once the net has seen them, the least sure one. */
function openFirst() {
  if (!overview.images.length) {
    keepSaying("No image can be labelled: the end of the page says why.");
    return;
  }
  const images = overview.images.filter((image) => !unloaded.has(image.key));
  if (!images.length) return;
  const asked = addressedImage(images);
  const first = asked ?? images.find((image) => image.status === "open") ?? images[0];
  const isSorted = images.every((image) => image.score !== null);
  const isLate = performance.now() > LONGEST_START && first.score !== null;
  if (asked || isSorted || isLate) open(first.key);
  else keepSaying("The net looks at the images, to find the ones of which it is least sure.");
}

/** Open the image `step` further in the list. */
function turn(step) {
  const { images } = overview;
  if (!images.length) return;
  const index = images.findIndex((image) => image.key === wantedKey);
  // An image that is no longer in the list lies between its last and its first.
  const start = index < 0 && step < 0 ? 0 : index;
  open(images.at((start + step) % images.length).key);
}

/**
 * Give the open image a status and open the next one that is still to be labelled. Nothing happens
 * while that one is being opened, or has only just been shown, or where the canvas has only just
 * got the focus.
 */
function finish(status) {
  if (!editor.image || wantedKey !== editor.image.key) return;
  if (performance.now() - Math.max(openedAt, focusedAt) < SHORTEST_LOOK) return;
  const gap = status === "done" ? findGap(editor.labels) : "";
  if (gap) return say(gap);
  if (editor.labels.status !== status) editor.setStatus(status);
  else if (saver.has(editor.image.key)) save(); // what was refused is sent once more
  const { images } = overview;
  const index = images.findIndex((image) => image.key === editor.image.key);
  const others = [...images.slice(index + 1), ...images.slice(0, Math.max(index, 0))];
  // What the server has not saved yet counts, too.
  const next = others.find(({ key, status: saved }) => {
    return (saver.pending(key)?.labels.status ?? saved) === "open";
  });
  if (next) return open(next.key);
  return say("That was the last image: all are done.");
}

/** Go back or forth in the history, and say what that has changed. */
function travel(word, step) {
  if (!editor.image) return;
  const before = editor.labels;
  step();
  if (editor.labels === before) return;
  say(`${[word, describeChange(before, editor.labels)].filter(Boolean).join(": ")}.`);
}

function save() {
  saver.put(editor.image.key, editor.image.digest, editor.labels);
}

/** Load the list of images, and the open image where another tab has changed it. */
async function refresh() {
  try {
    overview = await loadOverview();
    if (listProblem && element("message").textContent === listProblem) say("");
    listProblem = "";
    document.title = `Label hands: ${overview.folder}`;
    element("name").title = overview.folder;
    const { images } = overview;
    if (!wantedKey) openFirst();
    const key = editor.image?.key;
    const state = images.find((image) => image.key === key);
    const isOutdated = state && state.revision > saver.revision(key);
    const isIdle = key === wantedKey && !saver.has(key) && !editor.isInGesture;
    if (isOutdated && isIdle) load(key, THEIRS_LOADED);
  } catch (error) {
    listProblem = error.message;
    if (saver.state === "saved") keepSaying(listProblem);
  }
  showEverything();
  const isBusy = overview.images.some((image) => image.score === null);
  const calmWait = listProblem ? RETRY : REFRESH_IDLE;
  setTimeout(refresh, isBusy || !wantedKey ? REFRESH_BUSY : calmWait);
}

/** Show the list, the editor and whether all is saved. */
function showEverything() {
  redraw();
  const { image } = editor;
  showImages(overview, image?.key ?? null);
  const { images } = overview;
  const index = images.findIndex(({ key }) => key === image?.key);
  const position = index < 0 ? "passed over" : `${index + 1} of ${images.length}`;
  const name = image ? [`${image.name} (${position})`] : ["No image is open"];
  if (editor.isFinished) name.push(STATUS_WORDS[editor.labels.status]);
  setText(element("name"), name.join(", "));
  element("saved").dataset.state = saver.state;
  const failures = saver.failures.map(({ key, message }) =>
    key === null ? message : `${nameOf(key)}: ${message}`,
  );
  const problems = [...new Set(failures)].join("; ");
  const text = [SAVED_WORDS[saver.state], problems].filter(Boolean).join(": ");
  setText(element("saved"), text);
  speakSaving(text);
}

/** Tell a screen reader that labels cannot be saved, and when they are again. */
function speakSaving(text) {
  const speech = element("saving-speech");
  const isMended = saver.state === "saved" && speech.textContent;
  if (saver.state === "failed" || isMended) setText(speech, text);
}

function nameOf(key) {
  const images = [...overview.images, ...overview.unreadable];
  return images.find((image) => image.key === key)?.name ?? key;
}

/** Tell a screen reader where the chosen point is, where that has changed. */
function speakPoint() {
  const point = editor.labels.points[editor.selected];
  const text = `${pointName(editor.selected)}: ${describePoint(point)}`;
  if (text !== spoken) say(text);
  spoken = text;
}

function listen() {
  // A finger on a button ends what another finger drags or paints, as it may change tool or labels.
  document.addEventListener("click", () => editor.isInGesture && editor.endGesture(), true);
  listenToPointer(canvas, editor, redraw);
  listenToKeys(canvas, editor, actions);
  canvas.addEventListener("focus", () => {
    focusedAt = performance.now();
  });
  new ResizeObserver(() => {
    editor.view.resize(canvas.clientWidth, canvas.clientHeight);
    redraw();
  }).observe(canvas);
  window.addEventListener("hashchange", () => {
    const image = addressedImage(overview.images);
    if (image) open(image.key);
    else showAddress();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!saver.isIdle) event.preventDefault();
  });
}

function listenToChanges() {
  editor.addEventListener("change", () => {
    // What was said of anything but the point may no longer be true.
    if (element("message").textContent !== spoken) say("");
    save();
    speakPoint();
    showEverything();
  });
  editor.addEventListener("choose", speakPoint);
  editor.addEventListener("tool", () => say(`Tool: ${editor.tool}.`));
  editor.addEventListener("view", redraw);
  saver.addEventListener("state", showEverything);
  saver.addEventListener("saved", ({ detail }) => {
    const { key, revision, status, note, splits, labels } = detail;
    const state = overview.images.find((image) => image.key === key);
    if (state) Object.assign(state, { revision, status });
    overview.splits = splits;
    if (note) say(`Saved, but ${state?.name ?? key} is not done: ${note}.`);
    const isOpen = key === editor.image?.key && !saver.has(key);
    if (isOpen && status !== labels.status) editor.correctStatus(status);
  });
  listenToConflicts(saver, showSettled);
}

/** Show the labels of an image of which a conflict has ended. */
async function showSettled(key, keepsMine) {
  const note = keepsMine ? "Your labels were kept." : THEIRS_LOADED;
  if (key === wantedKey) await load(key, note);
  else if (keepsMine) say(note);
}

listen();
listenToChanges();
refresh();
