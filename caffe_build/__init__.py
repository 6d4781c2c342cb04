"""Gets and builds BVLC Caffe 1.0 for this machine: `python -m caffe_build`, see `__main__`."""
