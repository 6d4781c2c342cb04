"""The readers that are fuzzed: each writes whole files, then reads mutations of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

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
from tests.fuzz.image_parts import (
    BoxesFile,
    CocoResults,
    Image,
    MaskFile,
    OwnResults,
    Predictions,
    Results,
    Video,
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


class Reader(NamedTuple):
    """How a part is made, and what it reads.

    Attributes:
        make: Takes a folder to write the whole files to.
        description: What it reads, in words.
    """

    make: Callable[[Path], Part]
    description: str


PARTS = {
    "coco": Reader(Coco, "COCO-style JSON (`data_tools`)"),
    "onehand10k": Reader(OneHand10K, "OneHand10K: `label_joint.txt` and masks"),
    "freihand": Reader(Freihand, "FreiHAND: `*_K.json`, `*_xyz.json` and masks"),
    "rhd": Reader(Rhd, "RHD: pickle and masks"),
    "cmu": Reader(Cmu, "CMU's `X.json`"),
    "truth": Reader(Truth, "`truth.jsonl` of synthetic hands"),
    "mask": Reader(MaskFile, "mask files of any kind"),
    "lmdb": Reader(LmdbFile, "`data.mdb` of LMDB sets: pages, keys, records"),
    "lmdb-info": Reader(LmdbInfo, "`info.json` of LMDB sets"),
    "predictions": Reader(Predictions, "predictions files and their masks"),
    "results": Reader(Results, "results in other formats (OpenPose, MMPose, COCO, table, ours)"),
    "coco-results": Reader(CocoResults, "COCO results and the data set beside them"),
    "own-results": Reader(OwnResults, "marked results of `infer`: PNG, JSON, MP4, HDF5"),
    "boxes": Reader(BoxesFile, "COCO files of boxes, for `infer --boxes` and scenes"),
    "image": Reader(Image, "images: JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, PNM"),
    "video": Reader(Video, "videos and animated images"),
    "caffemodel": Reader(Caffemodel, "caffemodels, of both formats"),
    "solverstate": Reader(SolverState, "solver states with their weights, restored by Caffe"),
    "packed": Reader(PackedWeights, "packed weights (`.npz`)"),
    "log": Reader(RunLogFile, "`log.jsonl`, read for a plot and gone on with"),
    "data-layer": Reader(DataLayerSettings, "`param_str` of the data layer"),
    "solver": Reader(SolverPrototxt, "solver prototxts, built and stepped by Caffe"),
    "net": Reader(NetPrototxt, "train nets, built and stepped by Caffe"),
    "deploy": Reader(DeployPrototxt, "deploy nets, run by Caffe and by ONNX Runtime"),
}
