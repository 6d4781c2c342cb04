"""What the tests of `python -m mcc_caffe.evaluate` share: nets, predictions, and its results."""

import csv
import json
from pathlib import Path

from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.data.samples import Sample
from tests.support.commands import ROOT


def random_net(name: str, folder: Path) -> Path:
    """Write weights of an ablation of the mini net, as its fillers start it."""
    caffe = import_caffe()
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    path = folder / f"{name}.caffemodel"
    caffe.Net(str(ROOT / f"prototxt/mini/deploy_{name}.prototxt"), caffe.TEST).save(str(path))
    return path


def perfect_image(sample: Sample) -> dict:
    """Return the entry of a predictions file for a sample in which all keypoints are right."""
    return {"keypoints": [[float(x), float(y), 0.5] if v else None for x, y, v in sample.keypoints]}


def numbers(out: Path) -> dict:
    """Return {model: its numbers} of the only set of an evaluation."""
    models = json.loads((out / "results.json").read_text())["models"]
    return {model["name"]: next(iter(model["sets"].values())) for model in models}


def rows(out: Path, model: str) -> list[dict]:
    """Return the lines of images.csv of one model, numbers as numbers, None where empty."""
    with open(out / "images.csv") as file:
        of_model = [row for row in csv.DictReader(file) if row["model"] == model]
    texts = ("set", "key", "model")
    return [
        {
            name: text if name in texts else float(text) if text else None
            for name, text in row.items()
        }
        for row in of_model
    ]
