"""The network and the generator of its prototxts."""
