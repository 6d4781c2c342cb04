/**
 * Starts the labelling page, and says so where it cannot. It imports nothing that may be missing,
 * and is no module, since browsers load no modules from a disk.
 */
"use strict";

import("./main.js").catch((error) => {
  const text =
    `The page could not start (${error.message}; the browser's console says more): ` +
    "check that the server runs, then load the page again.";
  document.getElementById("saved").dataset.state = "failed";
  // Screen readers read the second aloud.
  for (const id of ["saved", "saving-speech"]) document.getElementById(id).textContent = text;
});
