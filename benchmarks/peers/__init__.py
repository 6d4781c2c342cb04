"""Other systems on the same data: each writes predictions that `mcc_caffe.evaluate --predictions` judges beside our nets."""
