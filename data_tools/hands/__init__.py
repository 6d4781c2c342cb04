"""The synthetic hand: its mesh, its poses, its appearance and the picture of it."""
