/** The live page: connects its controls with sources, network and canvas. */

import { element, setText } from "../shared/dom.js";
import { reasonOf } from "../shared/errors.js";
import { NAMES } from "../shared/hand.js";
import { imageWindow } from "../shared/letterbox.js";
import { Network } from "../shared/network.js";
import { nextWindow } from "./following.js";
import { Pace } from "./pace.js";
import { isHandPresent, presence } from "./presence.js";
import { reportJson, reportName } from "./report.js";
import { firstImage, listCameras, openCamera, openFile } from "./sources.js";
import { draw } from "./view.js";

const STATUS_MILLISECONDS = 1500; // between two statements of the status, for screen readers
const HELD_MILLISECONDS = 4000; // in which no frame replaces what a button has said it has done
const SPEED_FRAMES = 30; // over which the frames a second are averaged

const controls = Object.fromEntries(
  ["camera", "cameras", "file", "pause", "mask", "skeleton", "heatmaps", "follow", "threshold",
    "copy", "save"].map((id) => [id, element(id)]),
);

let network = null;
let waitingFiles = []; // that were dropped or pasted before the network was there
let pace = null;
let source = null;
/** What is on the canvas: {image, answer, name, note}, or null. */
let shown = null;
let frameTimes = [];
let isHandShown = null; // as the status says of a moving source
let statusTime = 0;
let heldUntil = 0; // as performance.now() counts; until then frames leave the status as it is
let openings = 0; // so far; of two that overlap the later one counts

start();

async function start() {
  connectControls();
  try {
    network = await Network.open();
  } catch (error) {
    showFailure(error);
    return;
  }
  pace = new Pace(network.model.input_size);
  controls.threshold.value = network.model.threshold;
  showThreshold();
  controls.camera.disabled = controls.file.disabled = false;
  setStatus("The network is ready: start the camera, or open an image or a clip.");
  useFirst(waitingFiles);
}

function connectControls() {
  controls.camera.addEventListener("click", () =>
    source?.isCamera ? stop() : use(() => startCamera()),
  );
  controls.cameras.addEventListener("change", () => use(() => startCamera(controls.cameras.value)));
  controls.file.addEventListener("change", () => {
    const [file] = controls.file.files;
    if (file) use(() => openFile(file));
    controls.file.value = ""; // so that the same file can be chosen again
  });
  controls.pause.addEventListener("click", () => setPaused(controls.pause.ariaPressed !== "true"));
  for (const name of ["mask", "skeleton", "heatmaps"]) {
    controls[name].addEventListener("change", redraw);
  }
  controls.threshold.addEventListener("input", () => {
    showThreshold();
    redraw();
  });
  controls.copy.addEventListener("click", copyReport);
  controls.save.addEventListener("click", saveReport);
  window.addEventListener("paste", ({ clipboardData }) =>
    useFirst([...clipboardData.files]),
  );
  element("table").addEventListener("toggle", redraw);
  connectDropping();
}

function connectDropping() {
  const setDropping = (isDropping) => document.body.classList.toggle("is-dropping", isDropping);
  window.addEventListener("dragover", (event) => {
    event.preventDefault(); // the browser would open the file in place of the page
    setDropping(true);
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) setDropping(false);
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    setDropping(false);
    if (event.dataTransfer.files.length === 0) {
      showProblem(new Error("what was dropped is no file: save the image first"));
    }
    useFirst([...event.dataTransfer.files]);
  });
}

/** Open the first image or clip of some files; before the network is there, `start` does it. */
function useFirst(files) {
  if (files.length === 0) return;
  if (!network) {
    waitingFiles = files;
    return;
  }
  const count = files.length;
  const note = count > 1 ? ` Of ${count} files the first image or clip is shown.` : "";
  use(() => openFile(firstImage(files)), note);
}

/** Open a camera as openCamera does; where it fails, list those that there are. */
async function startCamera(deviceId) {
  try {
    return await openCamera(deviceId);
  } catch (error) {
    await showCameras();
    throw error;
  }
}

/** Open a source in place of the one before, and look at its frames until another takes over. */
async function use(open, note = "") {
  showProblem(null);
  const opening = (openings += 1);
  let opened;
  try {
    opened = await open();
  } catch (error) {
    if (opening === openings) showProblem(error);
    return;
  }
  if (opening !== openings) {
    opened.close();
    return;
  }
  stop();
  source = Object.assign(opened, { note }); // the status ends with the note
  controls.pause.disabled = !opened.isMoving;
  opened.onEnd = () => {
    controls.pause.ariaPressed = "true";
    setStatus(endedStatus(opened));
  };
  controls.camera.textContent = opened.isCamera ? "Stop camera" : "Start camera";
  frameTimes = [];
  [isHandShown, statusTime, heldUntil] = [null, -STATUS_MILLISECONDS, 0];
  try {
    if (opened.isCamera) await showCameras();
    await lookAtFrames(opened);
  } catch (error) {
    if (source !== opened) return;
    stop();
    showFailure(error);
    if (opened.isCamera) await showCameras();
  }
}

async function lookAtFrames(current) {
  const { input_size: modelSize, threshold } = network.model;
  let handWindow = null; // around the last frame's hand
  do {
    const frame = await current.nextFrame();
    if (!frame || source !== current) return frame?.close();
    const isFollowing = handWindow !== null && controls.follow.checked;
    const window = isFollowing ? handWindow : imageWindow(frame.width, frame.height);
    const size = isFollowing ? pace.size() : modelSize;
    const { image, answer } = await network.look(frame, window, size);
    if (source !== current) return image.close();
    pace.note(size, answer.seconds.total);
    handWindow = nextWindow(answer, window, presenceIn(answer, threshold));
    show(image, answer);
  } while (current.isMoving);
}

function presenceIn(answer, threshold) {
  return presence(answer.keypoints, threshold, network.model.least_score);
}

function stop() {
  source?.close();
  source = null;
  controls.pause.disabled = true;
  controls.pause.ariaPressed = "false";
  controls.camera.textContent = "Start camera";
  element("speed").textContent = "";
}

async function setPaused(isPaused) {
  controls.pause.ariaPressed = String(isPaused);
  frameTimes = [];
  await source?.setPaused(isPaused);
}

function show(image, answer) {
  shown?.image.close();
  shown = { image, answer, name: source.name, note: source.note };
  controls.copy.disabled = controls.save.disabled = false;
  redraw();
  showSpeed(answer);
}

function redraw() {
  if (!shown) return;
  const threshold = Number(controls.threshold.value);
  const present = presenceIn(shown.answer, threshold);
  draw(element("view"), shown.image, shown.answer, present, {
    mask: controls.mask.checked,
    skeleton: controls.skeleton.checked,
    heatmaps: controls.heatmaps.checked,
  });
  showRows(present);
  const count = present.filter(Boolean).length;
  const isHand = isHandPresent(present);
  const text = isHand
    ? `${shown.name}: ${count} of ${present.length} keypoints are surer than ` +
      `${threshold.toFixed(2)}.`
    : `${shown.name}: no hand is found.`;
  element("view").ariaLabel = text;
  if (source?.isMoving && performance.now() < heldUntil) return;
  if (source?.hasEnded) {
    setStatus(endedStatus(source));
    return;
  }
  // Of a moving source only what lasts is said, as screen readers read the status aloud.
  setStatus((source?.isMoving ? movingStatus(isHand) : text) + shown.note);
}

function endedStatus({ name, note }) {
  return `${name} has ended: press Pause to play it again.${note}`;
}

function movingStatus(isHand) {
  if (isHand !== isHandShown && performance.now() - statusTime > STATUS_MILLISECONDS) {
    [isHandShown, statusTime] = [isHand, performance.now()];
  }
  return `${shown.name}: ${isHandShown ? "a hand is shown" : "no hand is found"}.`;
}

function showRows(present) {
  if (!element("table").open) return;
  const rows = shown.answer.keypoints.map(([x, y, confidence], k) => [
    ...(present[k] ? [x.toFixed(1), y.toFixed(1)] : ["–", "–"]),
    confidence.toFixed(2),
  ]);
  element("rows").replaceChildren(
    ...rows.map((texts, k) => {
      const row = document.createElement("tr");
      const header = document.createElement("th");
      [header.scope, header.textContent] = ["row", NAMES[k]];
      row.append(header);
      texts.forEach((text) => (row.insertCell().textContent = text));
      return row;
    }),
  );
}

function showSpeed({ seconds }) {
  const milliseconds = `${Math.round(1000 * seconds.total)} ms · ${network.engine}`;
  if (!source.isMoving) {
    element("speed").textContent = milliseconds;
    return;
  }
  frameTimes = [...frameTimes, performance.now()].slice(-SPEED_FRAMES - 1);
  const elapsed = (frameTimes.at(-1) - frameTimes[0]) / 1000;
  const speed = elapsed > 0 ? ((frameTimes.length - 1) / elapsed).toFixed(1) : "–";
  element("speed").textContent = `${speed} frames/s · ${milliseconds}`;
}

/** List the cameras that there are; the one that is shown, if any, is selected. */
async function showCameras() {
  const cameras = await listCameras();
  const hasFocus = document.activeElement === controls.cameras;
  controls.cameras.replaceChildren(
    ...cameras.map(([id, name]) => new Option(name, id, false, id === source?.deviceId)),
  );
  element("camera-choice").hidden = cameras.length < 2;
  // What is hidden loses the focus.
  if (hasFocus && cameras.length < 2) controls.camera.focus();
}

function report() {
  return reportJson(shown.answer, {
    name: shown.name,
    present: presenceIn(shown.answer, Number(controls.threshold.value)),
    threshold: network.model.threshold,
    engine: `onnxruntime-web (${network.engine})`,
    weights: network.model.weights,
  });
}

async function copyReport() {
  try {
    await copyText(report());
    holdStatus("The keypoints are in the clipboard.");
  } catch (error) {
    heldUntil = 0;
    redraw(); // the status says again what the image shows, not what an earlier copy did
    showProblem(error);
  }
}

async function copyText(text) {
  if (!navigator.clipboard) {
    throw new Error(
      "this browser gives no clipboard to the page: open it at https:// or localhost, or save " +
        "the keypoints",
    );
  }
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {
    const reason = `the clipboard cannot be written (${reasonOf(error)})`;
    throw new Error(`${reason}: save the keypoints instead`);
  }
}

function saveReport() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([report()], { type: "application/json" }));
  link.download = reportName(shown.name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  holdStatus(`The keypoints are saved as ${link.download}.`);
}

function showThreshold() {
  element("threshold-value").textContent = Number(controls.threshold.value).toFixed(2);
}

function setStatus(text) {
  setText(element("status"), text);
}

/** Say what a button has done; the frames of a moving source leave it there for a while. */
function holdStatus(text) {
  showProblem(null);
  heldUntil = performance.now() + HELD_MILLISECONDS;
  setStatus(text);
}

/** Say what has failed, in place of what the status said before. */
function showFailure(error) {
  setStatus("");
  showProblem(error);
}

function showProblem(error) {
  element("problem").hidden = error === null;
  element("problem").textContent = error === null ? "" : `Problem: ${reasonOf(error)}.`;
}
