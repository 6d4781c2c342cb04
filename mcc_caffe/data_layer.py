"""The Caffe Python layer that feeds the train nets: a thin shell over mcc_caffe.data.loader.

    layer { type: "Python"  top: "data"  top: "mask_label"  top: "heatmaps"
            python_param { module: "mcc_caffe.data_layer"  layer: "HandDataLayer"  param_str: '{"source": ...}' } }

`param_str` is JSON with the keys of loader.LoaderConfig. A net without a mask stage leaves the top `mask_label` out.
"""

import caffe

from mcc_caffe.data.loader import Loader, LoaderConfig, LoaderError
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, MASK_LABEL_BLOB

TOPS = {
    3: (DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB),
    2: (DATA_BLOB, HEATMAPS_BLOB),
}


class HandDataLayer(caffe.Layer):
    """Fills its tops with the next batch. Tops: data, mask_label, heatmaps (3) or data, heatmaps (2)."""

    # A loader that was started beforehand (before any CUDA call) for the layer that is set up next.
    started: Loader = None

    def setup(self, bottom, top):
        """Reads `param_str` and takes the started loader, or starts one."""
        if len(top) not in TOPS or len(bottom):
            raise LoaderError(
                f"HandDataLayer has {len(bottom)} bottoms and {len(top)} tops; it needs none and 2 or 3"
            )
        config = LoaderConfig.from_json(self.param_str)
        self.loader, HandDataLayer.started = HandDataLayer.started, None
        if self.loader is None:
            self.loader = Loader(config, caffe.solver_rank(), caffe.solver_count())
        elif self.loader.config != config:
            raise LoaderError(
                f"the loader was started with {self.loader.config}, the net says {config}"
            )
        for place, name in enumerate(TOPS[len(top)]):
            top[place].reshape(*config.shapes()[name])

    def reshape(self, bottom, top):
        """Shapes never change."""

    def forward(self, bottom, top):
        """Copies the next batch into the tops."""
        arrays, _ = self.loader.next_batch()
        for place, name in enumerate(TOPS[len(top)]):
            top[place].data[...] = arrays[name]

    def backward(self, top, propagate_down, bottom):
        """Data has no gradient."""
