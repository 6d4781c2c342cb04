/** Scrolls lists without moving the page. */

/** Scroll a list, to which the page's style gives a position, such that an item is seen. */
export function scrollInside(list, item) {
  const last = item.offsetTop + item.offsetHeight - list.clientHeight;
  list.scrollTop = Math.min(Math.max(list.scrollTop, last), item.offsetTop);
}
