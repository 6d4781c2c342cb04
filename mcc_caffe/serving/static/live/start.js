/**
 * Starts the live page, and says so where it cannot. It imports nothing that may be missing, and is
 * no module, since browsers load no modules from a disk.
 */
"use strict";

import("./main.js").catch((error) => {
  document.getElementById("status").textContent = "";
  const problem = document.getElementById("problem");
  problem.hidden = false;
  problem.textContent =
    `Problem: the page could not start (${error.message}; the browser's console says more): ` +
    "open it through a web server that runs.";
});
