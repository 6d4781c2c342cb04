"""What every room stands on: no Caffe, no data sets."""
