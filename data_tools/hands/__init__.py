"""The synthetic hand: its mesh, its poses, its looks and the picture of it."""
