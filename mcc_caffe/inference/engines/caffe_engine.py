"""The reference engine: Caffe itself."""

from mcc_caffe.caffe_io.pycaffe import import_caffe, require_gpus
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.files import existing
from mcc_caffe.paper import IMAGE_BLOB, LAST_STAGE, MASK_BLOB, stage_blob


class CaffeEngine:
    """A deploy net with its weights, on the CPU or on one GPU."""

    name = "caffe"

    def __init__(self, prototxt, weights, gpu: int = None):
        if gpu is not None:
            require_gpus([gpu])
        caffe = import_caffe()
        if gpu is None:
            caffe.set_mode_cpu()
        else:
            caffe.set_device(gpu)  # before the mode, which would take memory on GPU 0 as well
            caffe.set_mode_gpu()
        self.net = caffe.Net(str(existing(prototxt, "deploy net")), caffe.TEST)
        load_weights(self.net, weights)
        self.input_size = self.net.blobs[IMAGE_BLOB].data.shape[-1]
        self.has_mask, self.has_pose = (
            name in self.net.blobs for name in (MASK_BLOB, stage_blob(LAST_STAGE))
        )

    def __call__(self, batch):
        """See the package's docstring."""
        blobs = self.net.blobs
        if blobs[IMAGE_BLOB].data.shape != batch.shape:
            blobs[IMAGE_BLOB].reshape(*batch.shape)
        blobs[IMAGE_BLOB].data[...] = batch
        self.net.forward()
        mask = blobs[MASK_BLOB].data[:, 1].copy() if self.has_mask else None
        return mask, blobs[stage_blob(LAST_STAGE)].data.copy() if self.has_pose else None
