/**
 * Where frames come from: an image, a clip, or a camera.
 *
 * A source has: name; isMoving; isCamera; nextFrame(), which returns an ImageBitmap, or null where
 * the source has been closed meanwhile, and throws where a camera gives no more; close(); and,
 * where it is moving, setPaused(isPaused), hasEnded, and onEnd, a function of the page's that a
 * clip calls when it ends.
 */

import { reasonOf } from "../shared/errors.js";
import { uprightBitmap } from "./webp.js";

/** Return the first of some files that is an image or a clip, or else the first. */
export function firstImage(files) {
  return files.find(({ type }) => /^(image|video)\//.test(type)) ?? files[0];
}

/** Open an image or a clip. */
export async function openFile(file) {
  const name = file.name || "pasted file";
  if (file.type.startsWith("video/")) return openClip(file, name);
  try {
    // As cv2 reads it: upright, and without a change of colours by a profile.
    const image = await uprightBitmap(file, { colorSpaceConversion: "none" });
    return new StillImage(name, image);
  } catch {
    if (file.type.startsWith("image/")) {
      throw new Error(`${name} cannot be read as an image: try JPEG or PNG`);
    }
    return openClip(file, name);
  }
}

async function openClip(file, name) {
  const video = newVideo();
  const url = URL.createObjectURL(file);
  // A damaged clip may begin, and play() may neither end nor fail.
  const failed = new Promise((_, reject) => video.addEventListener("error", reject));
  video.src = url;
  try {
    await Promise.race([video.play(), failed]);
  } catch {
    URL.revokeObjectURL(url);
    const problem = file.type.startsWith("video/")
      ? "cannot be played here: try a clip in MP4 (H.264) or WebM"
      : "is no image or clip: open an image or a clip";
    throw new Error(`${name} ${problem}`);
  }
  if (video.videoWidth === 0) {
    video.pause();
    URL.revokeObjectURL(url);
    throw new Error(`${name} has no frames: open an image or a clip`);
  }
  const clip = new Moving(name, video, () => URL.revokeObjectURL(url));
  video.addEventListener("ended", () => clip.onEnd());
  failed.catch(() =>
    clip.fail(new Error(`${name} is damaged from here on: open another clip, or make it anew`)),
  );
  return clip;
}

/** Open a camera: the one with the id or, without one, the browser's choice. */
export async function openCamera(deviceId) {
  if (!navigator.mediaDevices) {
    throw new Error("this browser gives no camera to the page: open it at https:// or localhost");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: {
        width: { ideal: 640 },
        height: { ideal: 480 },
        ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
      },
    });
  } catch (error) {
    throw new Error(cameraProblem(error));
  }
  const tracks = stream.getTracks();
  const stopTracks = () => tracks.forEach((track) => track.stop());
  const video = newVideo();
  video.srcObject = stream;
  try {
    await video.play();
  } catch (error) {
    stopTracks();
    throw new Error(cameraProblem(error));
  }
  const camera = new Moving("camera", video, stopTracks);
  camera.isCamera = true;
  camera.deviceId = tracks[0].getSettings().deviceId;
  tracks[0].addEventListener("ended", () =>
    camera.fail(new Error("the camera gives no more frames: plug it in, and start it again")),
  );
  return camera;
}

/** List the cameras as [id, name]; names are known once one has been opened. */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter(({ kind }) => kind === "videoinput")
    .map(({ deviceId, label }, index) => [deviceId, label || `camera ${index + 1}`]);
}

function cameraProblem(error) {
  const known = {
    NotAllowedError: "the camera was refused: allow it in the browser's settings",
    NotFoundError: "no camera was found: plug one in, or open an image",
    NotReadableError: "the camera is in use: end the other program that uses it",
    OverconstrainedError: "the camera is not there any more: plug it in, or choose another",
  };
  return (
    known[error.name] ??
    `the camera could not be started (${reasonOf(error)}): open an image instead`
  );
}

function newVideo() {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}

class StillImage {
  isMoving = false;
  isCamera = false;
  #image;

  constructor(name, image) {
    [this.name, this.#image] = [name, image];
  }

  async nextFrame() {
    const image = this.#image;
    this.#image = null;
    return image;
  }

  close() {
    this.#image?.close();
  }
}

/** A video element as a source. */
class Moving {
  isMoving = true;
  isCamera = false;
  #video;
  #isClosed = false;
  #failure = null; // why it gives no more frames
  #isFrameNew = true; // whether the video shows a frame that nextFrame() has not returned
  #release;
  #wake = () => {};
  onEnd = () => {};

  constructor(name, video, release) {
    [this.name, this.#video, this.#release] = [name, video, release];
    this.#watch();
  }

  /** Return the frame that is shown now; where it was returned before, wait for the next one. */
  async nextFrame() {
    if (!this.#isFrameNew && !this.#isClosed && !this.#failure) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
    this.#isFrameNew = false;
    if (this.#failure) throw this.#failure;
    if (this.#isClosed) return null;
    try {
      return await createImageBitmap(this.#video);
    } catch (error) {
      if (this.isCamera) throw error;
      throw new Error(`${this.name} shows no frame: open another clip, or make it anew`);
    }
  }

  /** Give no more frames; `nextFrame` throws the error. */
  fail(error) {
    this.#failure = error;
    this.#wake();
  }

  #watch() {
    if (this.#isClosed) return;
    const note = () => {
      this.#isFrameNew = true;
      this.#wake();
      this.#watch();
    };
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(note);
    else requestAnimationFrame(note);
  }

  get hasEnded() {
    return this.#video.ended;
  }

  /** Pause or go on; a clip that has ended begins again. */
  async setPaused(isPaused) {
    if (isPaused) this.#video.pause();
    // play() fails where a pause or close() interrupts it; of damage the "error" event tells.
    else await this.#video.play().catch(() => {});
  }

  close() {
    this.#isClosed = true;
    this.#video.pause();
    this.#release();
    this.#video.removeAttribute("src");
    this.#video.srcObject = null;
    this.#wake();
  }
}
