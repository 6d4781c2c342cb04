"""The readers that are fuzzed: each writes whole files, then reads mutations of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from tests.fuzz.data_parts import (
    Cmu,
    Coco,
    Freihand,
    LmdbFile,
    LmdbInfo,
    OneHand10K,
    Rhd,
    Truth,
)
from tests.fuzz.net_parts import (
    Caffemodel,
    DataLayerSettings,
    DeployPrototxt,
    NetPrototxt,
    PackedWeights,
    RunLogFile,
    SolverPrototxt,
    SolverState,
)
from tests.fuzz.picture_parts import (
    BoxesFile,
    Image,
    MaskFile,
    OwnResults,
    Predictions,
    Results,
    Video,
)


class Part(Protocol):
    """A reader, with whole files of its own to mutate."""

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        """Mutate a file and let the reader read it.

        Returns:
            What was refused of it, such as single samples.

        Raises:
            UserError: All of it was refused.
            AssertionError: The answer is impossible.
        """


PARTS: dict[str, Callable[[Path], Part]] = {
    "coco": Coco,
    "onehand10k": OneHand10K,
    "freihand": Freihand,
    "rhd": Rhd,
    "cmu": Cmu,
    "truth": Truth,
    "mask": MaskFile,
    "lmdb": LmdbFile,
    "lmdb-info": LmdbInfo,
    "predictions": Predictions,
    "results": Results,
    "own-results": OwnResults,
    "boxes": BoxesFile,
    "image": Image,
    "video": Video,
    "caffemodel": Caffemodel,
    "solverstate": SolverState,
    "packed": PackedWeights,
    "log": RunLogFile,
    "data-layer": DataLayerSettings,
    "solver": SolverPrototxt,
    "net": NetPrototxt,
    "deploy": DeployPrototxt,
}
# What each of them reads, in words.
DESCRIPTIONS = {
    "coco": "COCO-style JSON (`data_tools`)",
    "onehand10k": "OneHand10K: `label_joint.txt` and masks",
    "freihand": "FreiHAND: `*_K.json`, `*_xyz.json` and masks",
    "rhd": "RHD: pickle and masks",
    "cmu": "CMU's `X.json`",
    "truth": "`truth.jsonl` of synthetic hands",
    "mask": "mask files of any kind",
    "lmdb": "`data.mdb` of LMDB sets: pages, keys, records",
    "lmdb-info": "`info.json` of LMDB sets",
    "predictions": "predictions files and their masks",
    "results": "results in other formats (OpenPose, MMPose, COCO, table, ours)",
    "own-results": "marked results of `infer`: PNG, JSON, MP4, HDF5",
    "boxes": "COCO files of boxes, for `infer --boxes` and scenes",
    "image": "pictures: JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, PNM",
    "video": "videos and animated pictures",
    "caffemodel": "caffemodels, of both formats",
    "solverstate": "solver states with their weights, restored by Caffe",
    "packed": "packed weights (`.npz`)",
    "log": "`log.jsonl`, read for a plot and gone on with",
    "data-layer": "`param_str` of the data layer",
    "solver": "solver prototxts, built and stepped by Caffe",
    "net": "train nets, built and stepped by Caffe",
    "deploy": "deploy nets, run by Caffe and by ONNX Runtime",
}
