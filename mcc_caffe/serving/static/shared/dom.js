/** What both pages do with the elements of their documents. */

/** Return the element with an id. */
export function element(id) {
  return document.getElementById(id);
}

/** Change an element's text only where it differs, since a screen reader reads each change. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
