"""The synthetic hand: its mesh, its poses, its appearance and its rendering."""
