/** Starts the live page, and says so where it cannot. It imports nothing that may be missing. */

import("./main.js").catch((error) => {
  document.getElementById("status").textContent = "";
  const problem = document.getElementById("problem");
  problem.hidden = false;
  problem.textContent =
    `Problem: the page could not start (${error.message}; the browser's console says more): ` +
    "check that the server runs, then load the page again.";
});
