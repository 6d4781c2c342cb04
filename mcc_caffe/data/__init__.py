"""Samples, from the LMDB set to the batch that the net is fed with."""
