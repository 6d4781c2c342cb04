"""All data sets that can be read, and the one way to read them.

    readers.read("OneHand10K")             # {"Train": entries, "Test": entries}: the splits as the set names them
    readers.read("hands_train.json")       # the format is known by what lies there

An entry is light. Its `where` names file and record for messages; its `sample()` loads what they name and returns a
`mcc_caffe.data.samples.Sample`, or raises SampleError.

A format is a module: LAYOUT says what its folder holds, `splits(root)` names the splits that lie there and
`entries(root, split)` reads the labels of one.
"""

import pathlib

from data_tools.readers import cmu, coco, freihand, onehand10k, rhd
from mcc_caffe.core.errors import UserError

FORMATS = {"onehand10k": onehand10k, "coco": coco, "cmu": cmu, "rhd": rhd, "freihand": freihand}
AUTO = "auto"


def find(root, format: str = AUTO) -> str:
    """The name of the format that `root`, a folder or a JSON file, is in; UserError unless exactly one of them fits."""
    root = pathlib.Path(root)
    if not root.exists():
        raise UserError(
            f"{root} was not found: give the folder of a data set, or a COCO-style .json file"
        )
    tried = list(FORMATS) if format == AUTO else [format]
    fitting = [name for name in tried if FORMATS[name].splits(root)]
    if len(fitting) == 1:
        return fitting[0]
    layouts = "; ".join(f"{name} ({FORMATS[name].LAYOUT})" for name in fitting or tried)
    if fitting:
        raise UserError(f"{root} fits several formats, choose one with --format: {layouts}")
    raise UserError(f"{root} holds no data set of these layouts: {layouts}")


def read(root, format: str = AUTO) -> dict:
    """{split: entries} of the data set in `root`, a folder or a JSON file."""
    module = FORMATS[find(root, format)]
    root = pathlib.Path(root)
    return {split: module.entries(root, split) for split in module.splits(root)}


def own_split(names) -> tuple:
    """(training, validation) of a set's splits, by their names; UserError unless there is one of each.

    Where a set has both a validation and a test split, the validation split is taken.
    """
    training = [name for name in names if "train" in name.lower()]
    others = [name for name in names if name not in training]
    validation = [name for name in others if "val" in name.lower()] or [
        name for name in others if "test" in name.lower()
    ]
    if len(training) != 1 or len(validation) != 1:
        raise UserError(
            f"--split original: the set has {' and '.join(names)}, not one split to train on and one to validate: "
            "pool what it has with --split N/M"
        )
    return training[0], validation[0]
