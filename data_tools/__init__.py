"""Data sets: readers, the LMDB builder and synthetic hands."""
