/** What a message says of an error. */

/** Return why something has failed: an error's own words, or its name where it has none. */
export function reasonOf(error) {
  const words = error?.message || String(error); // WebAssembly may throw a number
  return words.replace(/\.$/, ""); // the browser's own words end with a full stop
}
