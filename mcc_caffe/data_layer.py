"""The Caffe Python layer that feeds the train nets: a thin shell over mcc_caffe.data.loader.

layer {
  type: "Python"  top: "data"  top: "mask_label"  top: "heatmaps"
  python_param {
    module: "mcc_caffe.data_layer"  layer: "HandDataLayer"  param_str: '{"source": ...}'
  }
}

`param_str` is JSON with the keys of loader_config.LoaderConfig. A net without a mask head leaves
the top `mask_label` out.
"""

from typing import Any

import caffe

from mcc_caffe.data.loader import Loader, take_loader
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, MASK_LABEL_BLOB

# The blobs that the layer fills, by their number.
TOPS = {
    3: (DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB),
    2: (DATA_BLOB, HEATMAPS_BLOB),
}


class HandDataLayer(caffe.Layer):
    """Fills its tops with the next batch: data, mask_label, heatmaps (3) or data, heatmaps (2)."""

    def setup(self, bottom: Any, top: Any) -> None:
        """Read `param_str`, and take the loader that was lent for it or start one."""
        if len(top) not in TOPS or len(bottom):
            raise LoaderError(
                f"HandDataLayer has {len(bottom)} bottoms and {len(top)} tops; "
                "it needs none and 2 or 3"
            )
        config = LoaderConfig.from_json(self.param_str)
        self.loader = take_loader(config) or Loader(
            config, caffe.solver_rank(), caffe.solver_count()
        )
        # By index: Caffe's vector of blobs cannot be iterated over.
        for index, name in enumerate(TOPS[len(top)]):
            top[index].reshape(*config.shapes()[name])

    def reshape(self, bottom: Any, top: Any) -> None:
        """Do nothing: shapes never change."""

    def forward(self, bottom: Any, top: Any) -> None:
        """Copy the next batch into the tops."""
        arrays = self.loader.next_batch().arrays
        for index, name in enumerate(TOPS[len(top)]):
            top[index].data[...] = arrays[name]

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Do nothing: data has no gradient."""
