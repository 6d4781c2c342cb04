"""The Caffe Python layer that feeds the train nets with the batches of mcc_caffe.data.loader.

layer {
  type: "Python"  top: "data"  top: "mask_label"  top: "heatmaps"
  python_param {
    module: "mcc_caffe.data_layer"  layer: "HandDataLayer"  param_str: '{"source": ...}'
  }
}

`param_str` is a JSON object whose keys are the fields of mcc_caffe.data.loader_config.LoaderConfig.
In a net without a mask head the layer has no top `mask_label`.
"""

from typing import Any

import caffe

from mcc_caffe.data.loader import Loader, take_loader
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, MASK_LABEL_BLOB

TOPS = (DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB)
TOPS_WITHOUT_MASK = (DATA_BLOB, HEATMAPS_BLOB)
_TOPS_BY_COUNT = {len(tops): tops for tops in (TOPS, TOPS_WITHOUT_MASK)}


class HandDataLayer(caffe.Layer):
    """Fills its tops with the next batch: data, mask_label and heatmaps, or data and heatmaps."""

    def setup(self, bottom: Any, top: Any) -> None:
        """Read `param_str`, then take the loader that `lend_loader` kept for it, or start one.

        Raises:
            LoaderError: The layer has other bottoms or tops, `param_str` is wrong, or a loader is
                kept for other settings.
            UserError: The source is missing, empty or damaged.
        """
        if len(top) not in _TOPS_BY_COUNT or len(bottom):
            raise LoaderError(
                f"HandDataLayer has {len(bottom)} bottoms and {len(top)} tops; "
                "it needs none and 2 or 3"
            )
        config = LoaderConfig.from_json(self.param_str)
        self.loader = take_loader(config) or Loader(
            config, caffe.solver_rank(), caffe.solver_count()
        )
        # Caffe's vector of blobs can only be indexed, not iterated over.
        for index, name in enumerate(_TOPS_BY_COUNT[len(top)]):
            top[index].reshape(*config.shapes()[name])

    def reshape(self, bottom: Any, top: Any) -> None:
        """Do nothing, because the shapes never change."""

    def forward(self, bottom: Any, top: Any) -> None:
        """Copy the next batch into the tops."""
        arrays = self.loader.next_batch().arrays
        for index, name in enumerate(_TOPS_BY_COUNT[len(top)]):
            top[index].data[...] = arrays[name]

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Do nothing, because data have no gradient."""
