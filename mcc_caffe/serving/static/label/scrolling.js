/** Scrolls lists without moving the page. */

/** Scroll a list, which has a position of its own in the page's style, such that an item is seen. */
export function scrollInside(list, item) {
  const last = item.offsetTop + item.offsetHeight - list.clientHeight;
  list.scrollTop = Math.min(Math.max(list.scrollTop, last), item.offsetTop);
}
