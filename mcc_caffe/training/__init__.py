"""One training run, in one process or several."""
