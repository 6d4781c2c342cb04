"""What every room stands on: no Caffe, no file formats."""
