"""Mask-pose cascaded CNN for 2D hand pose estimation (Wang, Peng, Liu; OneHand10K), on real Caffe."""

__version__ = "0.1.0"
