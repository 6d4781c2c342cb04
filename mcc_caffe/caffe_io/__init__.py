"""All that touches Caffe or its files."""
