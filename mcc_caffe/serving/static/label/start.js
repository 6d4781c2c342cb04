/** Starts the labelling page, and says so where it cannot. It imports nothing that may be missing. */

import("./main.js").catch((error) => {
  const saved = document.getElementById("saved");
  saved.dataset.state = "failed";
  saved.textContent =
    `The page could not start (${error.message}; the browser's console says more): ` +
    "check that the server runs, then load the page again.";
});
