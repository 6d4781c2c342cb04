"""Measures how well nets find hands, by the paper's protocol and by MMPose's.

    python -m mcc_caffe.evaluate data/lmdb/validation                                  # the weights that come with the package
    python -m mcc_caffe.evaluate data/lmdb --weights full.caffemodel without_mask.caffemodel without_pose.caffemodel
    python -m mcc_caffe.evaluate hand_labels_synth --split synth2 synth3 --predictions other_system.json

Prints Markdown tables and writes to DIR: results.json (every number, with what stands behind it), images.csv (a line an image
and model), pck.png and pck_groups.png (the paper's Fig. 9 and 10), worst_MODEL.png (its 32 worst pictures, truth beside
prediction) and predictions_MODEL.json (the keypoints that a net found, in the form that --predictions reads).

Every keypoint that the truth labels counts, however unsure the net is of it; one that it does not label never does.
"""

import argparse
import os
import pathlib
import re

import numpy as np

from data_tools import sets
from mcc_caffe.caffe_io.nets import deploy_net
from mcc_caffe.caffe_io.pycaffe import set_threads
from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.commands import command_parser, positive, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, write_whole
from mcc_caffe.data import sheet
from mcc_caffe.evaluation.evaluation_report import as_json, images_csv, tables, worst_tiles
from mcc_caffe.evaluation.model_scores import CURVE_THRESHOLDS, Outcome, outcome
from mcc_caffe.evaluation.pck_figures import draw_groups, draw_sets
from mcc_caffe.evaluation.prediction_runner import Job, Net, PredictionsFile, choose_splits, run
from mcc_caffe.evaluation.predictions_file import Predictions, write_predictions
from mcc_caffe.inference.engines import DEFAULT_ENGINE, ENGINES
from mcc_caffe.paper import ABLATIONS, VARIANTS

RESULTS, IMAGES = "results.json", "images.csv"
TOTAL = "total"  # several splits, taken together


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "data",
        type=pathlib.Path,
        metavar="DATA",
        help="LMDB set, folder of LMDB sets, or source in any format that data_tools.readers reads",
    )
    add(
        "--split",
        nargs="+",
        metavar="NAME",
        help="of DATA; several are measured one by one and together (default: validation or test)",
    )
    add("--limit", type=positive, metavar="N", help="only the first N samples of a split")
    add(
        "--weights",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="caffemodels or packed weights (default: none with --predictions, else as mcc_caffe.infer)",
    )
    add(
        "--predictions",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="JSON files of other systems' predictions; mcc_caffe/evaluation/predictions_file.py has the form",
    )
    add("--variant", choices=VARIANTS, default="mini", help="size of the networks (default: mini)")
    add(
        "--without",
        choices=[name.removeprefix("without_") for name in ABLATIONS],
        help="an ablation of the paper's 4.2 (default: each weights file shows by its layers which net it is of)",
    )
    add("--prototxt", type=pathlib.Path, metavar="FILE", help="deploy net (default: the variant's)")
    add("--gpu", type=int, metavar="ID", help="GPU to use (default: the CPU)")
    add(
        "--engine",
        choices=ENGINES,
        default=DEFAULT_ENGINE,
        help="what runs the nets (default: %(default)s)",
    )
    add(
        "--levels",
        type=positive,
        metavar="N",
        help="at most so many pyramid levels; 1: a single pass (default: the paper's pyramid)",
    )
    add(
        "--thresholds",
        nargs="+",
        type=_threshold,
        default=[0.05, 0.1, 0.2],
        metavar="T",
        help="of PCK (default: 0.05 0.1 0.2)",
    )
    add(
        "--processes",
        type=positive,
        metavar="N",
        help="of one thread each, with nets of their own (default: one a core; with --gpu one)",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("out/eval"),
        metavar="DIR",
        help="folder for the results (default: out/eval)",
    )
    return parser.parse_args(argv)


def _threshold(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return float(text)


def predictors(options: argparse.Namespace) -> tuple:
    """The nets and the predictions files that the options name, each with a name of its own."""
    weights = options.weights or ([] if options.predictions else [default_weights(options.variant)])
    found = [
        Net(name, path, _prototxt(options, path), options.gpu, options.levels, options.engine)
        for name, path in zip(short_names(weights), weights)
    ]
    found += [PredictionsFile(Predictions(path).name, path) for path in options.predictions]
    names = [as_file_name(one.name) for one in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(
            f"two models are called {twice[0]}: give a weights file once only, and predictions names of their own"
        )
    return tuple(found)


def _prototxt(options: argparse.Namespace, weights: pathlib.Path) -> pathlib.Path:
    return (
        existing(options.prototxt, "deploy net")
        if options.prototxt
        else deploy_net(weights, options.variant, options.without)
    )


def short_names(paths: list) -> list:
    """The ends of the paths, without suffix, as short as tells them apart."""
    parts = [path.absolute().with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return []


def as_file_name(name: str) -> str:
    """A model's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "_", name)


def check_keys(models: tuple, entries: dict, places: list) -> None:
    """UserError where a predictions file knows none of the samples."""
    for model in models:
        if isinstance(model, PredictionsFile):
            images = Predictions(model.path).images
            keys = (entries[split][index].sample().key for split, index in places)
            first = next(keys)
            if first not in images and not any(key in images for key in keys):
                raise UserError(
                    f"{model.path} has none of the {len(places)} images: they have keys like {first!r}, "
                    f"the file has keys like {next(iter(images))!r}"
                )


def by_set(result: Outcome, seen: list) -> dict:
    """{split: its part of the outcome}; where there are several, all of them together first."""
    splits = np.array([one.split for one in seen])
    parts = {split: result.at(splits == split) for split in dict.fromkeys(splits.tolist())}
    return parts if len(parts) == 1 else {TOTAL: result, **parts}


def facts(model) -> dict:
    """What results.json says of a predictor."""
    if isinstance(model, PredictionsFile):
        return {"name": model.name, "predictions": str(model.path)}
    return {
        "name": model.name,
        "weights": describe(model.weights),
        "net": str(model.prototxt),
        "engine": model.engine,
        "levels": model.levels or "the paper's pyramid",
    }


def write(
    options: argparse.Namespace,
    models: tuple,
    entries: dict,
    seen: list,
    outcomes: dict,
    results: dict,
) -> None:
    """Writes the files that the command's help names."""
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / RESULTS, as_json(results))
    write_whole(out / IMAGES, images_csv(seen, outcomes, options.thresholds))
    if any(one.distances is not None for one in outcomes.values()):
        write_whole(out / "pck.png", draw_sets(results["models"]))
        write_whole(out / "pck_groups.png", draw_groups(results["models"]))
    for place, model in enumerate(models):
        name = as_file_name(model.name)
        tiles = worst_tiles(
            seen, outcomes[model.name], place, lambda one: entries[one.split][one.index].sample()
        )
        if tiles:
            sheet.write_pages(tiles, out / f"worst_{name}.png")
        if isinstance(model, Net) and outcomes[model.name].distances is not None:
            write_predictions(
                out / f"predictions_{name}.json",
                model.name,
                {one.key: one.found[place].keypoints for one in seen},
            )


def main(argv=None) -> None:
    options = arguments(argv)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: give a folder")
    models = predictors(options)
    entries = sets.open_sets(options.data)
    splits = choose_splits(options.data, list(entries), options.split)
    places = [
        (split, index) for split in splits for index in range(len(entries[split]))[: options.limit]
    ]
    check_keys(models, entries, places)
    set_threads(1)  # a sum's order may depend on their number
    processes = options.processes or (len(os.sched_getaffinity(0)) if options.gpu is None else 1)
    for model in models:
        shown = facts(model)
        shown = {**shown.pop("weights", {}), **shown}
        print(
            f"{shown.pop('name')}: {', '.join(f'{what} {value}' for what, value in shown.items() if value is not None)}"
        )

    seen = run(Job(options.data, models), places, processes)
    outcomes = {model.name: outcome(seen, place) for place, model in enumerate(models)}
    numbers = {
        name: {
            where: part.numbers(options.thresholds) for where, part in by_set(result, seen).items()
        }
        for name, result in outcomes.items()
    }
    results = {
        "data": str(options.data),
        "sets": {
            split: {
                "samples": len(entries[split]),
                "evaluated": sum(one.split == split for one in seen),
            }
            for split in splits
        },
        "curve_thresholds": CURVE_THRESHOLDS.tolist(),
        "models": [facts(model) | {"sets": numbers[model.name]} for model in models],
    }
    write(options, models, entries, seen, outcomes, results)
    print(f"\n{tables(results['models'])}\n{options.out}: {RESULTS}, {IMAGES} and pictures")


if __name__ == "__main__":
    run_command(main)
