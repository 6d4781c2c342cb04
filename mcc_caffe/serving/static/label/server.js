/** Talks to mcc_caffe/serving/label_api.py. */

/** An answer of the server that says no; `status` is HTTP's, 0 where there was no answer. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the state of all pictures, the least sure first. */
export function loadOverview() {
  return request("pictures");
}

/** Return one picture's labels. */
export function loadPicture(key) {
  return request(`pictures/${key}`);
}

/**
 * Save labels.
 *
 * @param {string} key - the picture's.
 * @param {{revision: number, digest: string, token: string, labels: object}} change
 * @returns {Promise<{revision: number, status: string, note: string}>}
 */
export function saveLabels(key, change) {
  return request(`pictures/${key}`, {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(change),
  });
}

/** Return a picture's pixels, upright. */
export async function loadImage({ key, digest }) {
  const response = await fetchOrFail(`pictures/${key}/image?digest=${digest}`);
  if (!response.ok) throw await asError(response);
  return createImageBitmap(await response.blob());
}

async function request(path, options) {
  const response = await fetchOrFail(path, options);
  if (!response.ok) throw await asError(response);
  return response.json();
}

async function fetchOrFail(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new ServerError(0, "the server does not answer: is mcc-web label still running?");
  }
}

async function asError(response) {
  const text = await response.text();
  let message = text.trim();
  try {
    message = JSON.parse(text).message ?? message;
  } catch {
    // it is no JSON: the text itself says it
  }
  return new ServerError(response.status, message || `the server answers ${response.status}`);
}
