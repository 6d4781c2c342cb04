/** Talks to mcc_caffe/serving/label_api.py. */

/** An answer of the server that says no; `status` is HTTP's, 0 where there was no answer. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may be answered later: the server is away, or busy. */
  get isPassing() {
    return this.status === 0 || this.status >= 500;
  }
}

/** Return the state of all images, the least sure first. */
export function loadOverview() {
  return request("images");
}

/** Return one image's labels. */
export function loadImage(key) {
  return request(`images/${key}`);
}

/**
 * Save labels.
 *
 * @param {string} key - the image's.
 * @param {{revision: number, digest: string, token: string, labels: object}} change
 * @returns {Promise<{revision: number, status: string, note: string, splits: object}>}
 */
export function saveLabels(key, change) {
  return request(`images/${key}`, {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(change),
  });
}

/** Return an image's pixels, upright. */
export async function loadPixels(key) {
  return createImageBitmap(await fetchOrFail(`images/${key}/pixels`));
}

async function request(path, options) {
  return JSON.parse(await (await fetchOrFail(path, options)).text());
}

/** Return the content of an answer as a Blob; ServerError where there is none, or an error. */
async function fetchOrFail(path, options) {
  let response, content;
  try {
    response = await fetch(path, options);
    content = await response.blob(); // which fails where the server ends meanwhile
  } catch {
    throw new ServerError(0, "the server does not answer: is mcc-web label still running?");
  }
  if (!response.ok) throw asError(response.status, await content.text());
  return content;
}

function asError(status, text) {
  let message = text.trim();
  try {
    message = JSON.parse(text).detail ?? message;
  } catch {
    // it is no JSON: the text itself says it
  }
  return new ServerError(status, message || `the server answers ${status}`);
}
