"""From a picture or a video to what the net says of it."""
