/** Puts the labelling page together: opens pictures, saves changes, and shows both. */

import { element, setText } from "../shared/dom.js";
import { listenToConflicts } from "./conflict_dialog.js";
import { Editor } from "./editor.js";
import { listenToKeys } from "./keyboard.js";
import { describeChange, describePoint, findGap, pointName, STATUS_WORDS } from "./labels.js";
import { paint } from "./painter.js";
import { makePicturesPanel } from "./pictures_panel.js";
import { listenToPointer } from "./pointer.js";
import { makePointsPanel } from "./points_panel.js";
import { Saver } from "./saver.js";
import { loadImage, loadOverview, loadPicture } from "./server.js";
import { makeToolbar } from "./toolbar.js";

const REFRESH_BUSY = 500; // milliseconds between looks at the list while the net is at work
const REFRESH_IDLE = 10000;
const LONGEST_START = 5000; // after which the least sure picture so far is opened
const RETRY = 1000; // after which a picture or the list is asked for again that was not there
const SHORTEST_LOOK = 400; // before which nobody has looked at a picture, as in a double click
const THEIRS_LOADED = "Loaded again: these are the labels of the other tab.";
const SAVED_WORDS = { saved: "Saved", saving: "Saving…", failed: "Not saved" };

const CHANGED_ADVICE =
  "look at all of its labels. What was not saved of the old picture's is dropped.";

const canvas = element("picture");
const editor = new Editor();
const saver = new Saver();
let overview = { pictures: [], unreadable: [], passed_over: "", splits: { Train: 0, Test: 0 } };
const unloaded = new Set(); // keys of pictures that could not be opened
let wantedKey = null; // of the picture that is open or being opened
let loadings = 0; // of pictures so far; of two that overlap the later one counts
let openedAt = 0; // when the open picture was first shown, as performance.now() counts
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
const showPictures = makePicturesPanel(
  { list: element("pictures"), progress: element("progress"), passedOver: element("passed-over") },
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

/** Open a picture, unless it is open or being opened. */
function open(key) {
  if (key === wantedKey) return;
  wantedKey = key;
  if (key === editor.picture?.key) loadings += 1; // which drops the one that is being opened
  else load(key);
}

/** Load a picture and show it; the note says why it is loaded again. */
async function load(key, note = "") {
  const loading = (loadings += 1);
  try {
    const { picture, image } = await loadNewest(key);
    if (loading !== loadings) return image.close(); // another one was asked for meanwhile
    editor.endGesture(); // what it changed is unsaved, also where this picture is loaded again
    const isReload = key === editor.picture?.key;
    const known = saver.pending(key) ?? (isReload ? editor.picture : picture);
    const isFileChanged = known.digest !== picture.digest;
    if (isFileChanged) saver.drop(key); // labels of other pixels
    const unsaved = saver.pending(key);
    if (!unsaved) saver.setRevision(key, picture.revision);
    if (!isReload || isFileChanged) openedAt = performance.now();
    editor.open(picture, image, unsaved?.labels ?? picture.labels);
    showAddress();
    if (document.activeElement === document.body) canvas.focus({ preventScroll: true });
    say(isFileChanged ? `The picture ${picture.name} is another one now: ${CHANGED_ADVICE}` : note);
  } catch (error) {
    if (loading !== loadings) return;
    say(error.isPassing ? error.message : `${nameOf(key)}: ${error.message}`);
    if (error.isPassing) {
      setTimeout(() => loading === loadings && load(key, note), RETRY);
    } else {
      unloaded.add(key);
      showAddress();
      wantedKey = editor.picture?.key ?? null;
      if (!wantedKey) openFirst();
    }
  }
  showEverything();
}

/** Load a picture with its pixels; again where changes of this page were saved meanwhile. */
async function loadNewest(key) {
  for (;;) {
    const revision = saver.revision(key);
    const picture = await loadPicture(key);
    const image = await loadImage(picture);
    if (saver.has(key) || saver.revision(key) === revision) return { picture, image };
    image.close();
  }
}

/** Let the address name the open picture. */
function showAddress() {
  if (editor.picture) history.replaceState(null, "", `#${editor.picture.key}`);
}

/** Return the picture that the address names. */
function addressedPicture(pictures) {
  return pictures.find((picture) => `#${picture.key}` === location.hash);
}

/** Open the picture that the address names or, once the net has seen them, the least sure one. */
function openFirst() {
  const pictures = overview.pictures.filter((picture) => !unloaded.has(picture.key));
  if (!pictures.length) return;
  const asked = addressedPicture(pictures);
  const first = asked ?? pictures.find((picture) => picture.status === "open") ?? pictures[0];
  const isSorted = pictures.every((picture) => picture.score !== null);
  const isLate = performance.now() > LONGEST_START && first.score !== null;
  if (asked || isSorted || isLate) open(first.key);
  else say("The net looks at the pictures, to find the ones of which it is least sure.");
}

/** Open the picture `step` further in the list. */
function turn(step) {
  const { pictures } = overview;
  if (!pictures.length) return;
  const index = pictures.findIndex((picture) => picture.key === wantedKey);
  open(pictures[(index + step + pictures.length) % pictures.length].key);
}

/**
 * Give the open picture a status and open the next one that is still to be labelled. Nothing
 * happens while that one is being opened, or has only just been shown, or where the canvas has only
 * just got the focus.
 */
function finish(status) {
  if (!editor.picture || wantedKey !== editor.picture.key) return;
  if (performance.now() - Math.max(openedAt, focusedAt) < SHORTEST_LOOK) return;
  const gap = status === "done" ? findGap(editor.labels) : "";
  if (gap) return say(gap);
  if (editor.labels.status !== status) editor.setStatus(status);
  else if (saver.has(editor.picture.key)) save(); // what was refused is sent once more
  const { pictures } = overview;
  const index = pictures.findIndex((picture) => picture.key === editor.picture.key);
  const others = [...pictures.slice(index + 1), ...pictures.slice(0, Math.max(index, 0))];
  // What the server has not saved yet counts, too.
  const next = others.find(({ key, status: saved }) => {
    return (saver.pending(key)?.status ?? saved) === "open";
  });
  if (next) return open(next.key);
  return say("That was the last picture: all are done.");
}

/** Go back or forth in the history, and say what that has changed. */
function travel(word, step) {
  if (!editor.picture) return;
  const before = editor.labels;
  step();
  if (editor.labels === before) return;
  say(`${[word, describeChange(before, editor.labels)].filter(Boolean).join(": ")}.`);
}

function save() {
  saver.put(editor.picture.key, editor.picture.digest, editor.labels);
}

/** Load the list of pictures, and the open picture where another tab has changed it. */
async function refresh() {
  try {
    overview = await loadOverview();
    if (listProblem && element("message").textContent === listProblem) say("");
    listProblem = "";
    document.title = `Label hands: ${overview.folder}`;
    element("name").title = overview.folder;
    const { pictures } = overview;
    if (!wantedKey) openFirst();
    const key = editor.picture?.key;
    const state = pictures.find((picture) => picture.key === key);
    const isOutdated = state && state.revision > saver.revision(key);
    const isIdle = key === wantedKey && !saver.has(key) && !editor.isInGesture;
    if (isOutdated && isIdle) load(key, THEIRS_LOADED);
  } catch (error) {
    listProblem = error.message;
    if (saver.state === "saved") say(listProblem);
  }
  showEverything();
  const isBusy = overview.pictures.some((picture) => picture.score === null);
  const calmWait = listProblem ? RETRY : REFRESH_IDLE;
  setTimeout(refresh, isBusy || !wantedKey ? REFRESH_BUSY : calmWait);
}

/** Show the list, the editor and whether all is saved. */
function showEverything() {
  redraw();
  const { picture } = editor;
  showPictures(overview, picture?.key ?? null);
  const { pictures } = overview;
  const index = pictures.findIndex(({ key }) => key === picture?.key);
  const position = index < 0 ? "passed over" : `${index + 1} of ${pictures.length}`;
  const name = picture ? [`${picture.name} (${position})`] : ["No picture is open"];
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
  const pictures = [...overview.pictures, ...overview.unreadable];
  return pictures.find((picture) => picture.key === key)?.name ?? key;
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
    const density = window.devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * density);
    canvas.height = Math.round(canvas.clientHeight * density);
    editor.view.resize(canvas.clientWidth, canvas.clientHeight);
    redraw();
  }).observe(canvas);
  window.addEventListener("hashchange", () => {
    const picture = addressedPicture(overview.pictures);
    if (picture) open(picture.key);
    else showAddress();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!saver.isIdle) event.preventDefault();
  });
}

function listenToChanges() {
  editor.addEventListener("change", () => {
    save();
    speakPoint();
    showEverything();
  });
  editor.addEventListener("choose", speakPoint);
  editor.addEventListener("tool", () => say(`Tool: ${editor.tool}.`));
  editor.addEventListener("view", redraw);
  saver.addEventListener("state", showEverything);
  saver.addEventListener("saved", ({ detail: { key, revision, status, note, labels } }) => {
    const state = overview.pictures.find((picture) => picture.key === key);
    if (state) Object.assign(state, { revision, status });
    if (note) say(`Saved, but ${state?.name ?? key} is not done: ${note}.`);
    const isOpen = key === editor.picture?.key && !saver.has(key);
    if (isOpen && status !== labels.status) editor.correctStatus(status);
    refreshCounts();
  });
  listenToConflicts(saver, showSettled);
}

/** Show the labels of a picture of which a conflict has ended. */
async function showSettled(key, keepsMine) {
  const note = keepsMine ? "Your labels were kept." : THEIRS_LOADED;
  if (key === wantedKey) await load(key, note);
  else if (keepsMine) say(note);
}

/** Ask for the numbers of pictures that are done. */
async function refreshCounts() {
  try {
    overview.splits = (await loadOverview()).splits;
    showEverything();
  } catch {
    // the next refresh says what is wrong
  }
}

listen();
listenToChanges();
refresh();
