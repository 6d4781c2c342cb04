"""Measures how well networks find hands, by the paper's protocol and by MMPose's.

    python -m mcc_caffe.evaluate data/lmdb/validation    # the weights that come with the package
    python -m mcc_caffe.evaluate data/lmdb \\
        --weights full.caffemodel without_mask.caffemodel without_pose.caffemodel
    python -m mcc_caffe.evaluate hand_labels_synth --split synth2 synth3 --predictions system.json

Prints Markdown tables, and writes to the folder DIR:

    results.json              every number, with the settings that it holds for
    images.csv                a line for each image and model
    pck.png, pck_groups.png   the PCK curves of the paper's Fig. 9 and 10
    worst_MODEL.png           the model's 32 worst images, ground truth beside prediction
    predictions_MODEL.json    a network's keypoints, in the form that --predictions reads

Every keypoint that has a label counts, however unsure the network is of it. A keypoint without a
label never counts.
"""

import argparse
import logging
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np

from data_tools import sets
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.nets import find_deploy_net, has_pose_stage
from mcc_caffe.caffe_io.precision import FLOAT32, warn_of_rounding
from mcc_caffe.caffe_io.pycaffe import set_threads
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.commands import (
    add_levels_option,
    add_variant_option,
    command_parser,
    positive_float,
    positive_int,
    progress_bar,
    run_command,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file, write_together
from mcc_caffe.core.output_checks import check_folder, check_own_results, check_target
from mcc_caffe.data import sheet
from mcc_caffe.data.samples import Sample
from mcc_caffe.evaluation.evaluation_report import (
    IMAGES,
    RESULTS,
    ModelResults,
    images_csv,
    markdown_tables,
    to_json,
    worst_tiles,
)
from mcc_caffe.evaluation.model_names import as_file_name, check_names, short_names
from mcc_caffe.evaluation.model_scores import (
    CURVE_THRESHOLDS,
    ModelScores,
    SetNumbers,
    score_model,
)
from mcc_caffe.evaluation.pck_figures import draw_groups, draw_sets
from mcc_caffe.evaluation.prediction_runner import (
    EvaluatedSample,
    EvaluationJob,
    FileModelSpec,
    ModelSpec,
    NetModelSpec,
    SampleId,
    run_models,
)
from mcc_caffe.evaluation.predictions_file import PredictionsFile, format_predictions
from mcc_caffe.inference.engines import ENGINES, add_engine_options, choose_engine
from mcc_caffe.inference.engines.base import engine_title
from mcc_caffe.inference.presence import read_calibration
from mcc_caffe.paper import ABLATION_OF_STAGE
from mcc_caffe.predictor import DEFAULT_LOOKS, LOOKS, choose_look_count, searches_after_looks

FIGURES = ("pck.png", "pck_groups.png")
TOTAL = "total"  # name of all splits together, where there are several

_log = logging.getLogger(__name__)


class SplitSize(TypedDict):
    """How many samples a split has, and how many of them were evaluated."""

    samples: int
    evaluated: int


class Results(TypedDict):
    """The content of results.json; `orientation` is what --orientation says."""

    data: str
    orientation: str
    sets: dict[str, SplitSize]
    curve_thresholds: list[float]
    models: list[ModelResults]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    _add_set_arguments(parser)
    _add_model_arguments(parser.add_argument_group("what is measured"))
    _add_search_arguments(parser.add_argument_group("how networks look for the hand"))
    _add_measure_arguments(parser.add_argument_group("how it is measured"))
    options = parser.parse_args(argv)
    thresholds = [f"{threshold:g}" for threshold in options.thresholds]
    if len(set(thresholds)) < len(thresholds):
        parser.error(f"--thresholds {' '.join(thresholds)}: give different ones")
    if options.prototxt and options.without:
        parser.error(
            f"--prototxt {options.prototxt} with --without {options.without}: either chooses the "
            "deploy net, leave one out"
        )
    return options


def _add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which samples are evaluated."""
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
        help="splits of DATA; several are measured one by one and together "
        "(default: the only one, else the one for validation, else the one for test)",
    )
    add("--limit", type=positive_int, metavar="N", help="only the first N samples of a split")
    sets.add_orientation_argument(parser)


def _add_model_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which networks and other systems are measured."""
    add = group.add_argument
    add(
        "--weights",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="caffemodels or packed weights "
        "(default: none with --predictions, else as mcc_caffe.infer)",
    )
    add(
        "--predictions",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="predictions of other systems, and results of mcc_caffe.infer in any format: files or "
        "folders; docs/evaluation.md has the forms",
    )
    add_variant_option(group, "size of the networks")
    add(
        "--without",
        choices=ABLATION_OF_STAGE,
        help="stage that an ablated network of the paper's section 4.2 lacks "
        "(default: as the layers in each weights file show)",
    )
    add(
        "--prototxt",
        type=pathlib.Path,
        metavar="FILE",
        help="deploy net (default: the variant's, or that of the ablation that the weights are of)",
    )
    add_engine_options(group)


def _add_search_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how thoroughly a network looks for the hand."""
    levels_or_looks = group.add_mutually_exclusive_group()
    add_levels_option(levels_or_looks)
    levels_or_looks.add_argument(
        "--looks",
        type=int,
        choices=LOOKS,
        help="looks, as mcc_caffe.infer takes them, and no search (default without --levels: "
        f"{DEFAULT_LOOKS}, then a search if they show no hand)",
    )


def _add_measure_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what is computed, in how many processes, and where it is kept."""
    add = group.add_argument
    add(
        "--thresholds",
        nargs="+",
        type=positive_float,
        default=[0.05, 0.1, 0.2],
        metavar="T",
        help="thresholds of PCK (default: 0.05 0.1 0.2)",
    )
    add(
        "--processes",
        type=positive_int,
        metavar="N",
        help="processes, of one thread each and with networks of their own "
        "(default: one for each core; with --gpu one)",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("out/eval"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )


def make_model_specs(
    options: argparse.Namespace, files: Sequence[PredictionsFile]
) -> tuple[ModelSpec, ...]:
    """Return the networks that the options name, and the predictions files, as models.

    Args:
        options: The command's options.
        files: The predictions files that they name.

    Raises:
        UserError: A file of weights is missing, or two models have the same name.
    """
    weights = options.weights or ([] if options.predictions else [default_weights(options.variant)])
    engine, precision = "", FLOAT32
    if weights:
        engine = choose_engine(options.engine, options.gpu)
        precision = ENGINES[engine].choose_precision(options.precision, options.gpu)
        warn_of_rounding(precision)
    model_specs: list[ModelSpec] = [
        NetModelSpec(
            name,
            path,
            options.variant,
            prototxt=_choose_prototxt(options, path),
            gpu=options.gpu,
            levels=options.levels,
            looks=options.looks,
            engine=engine,
            precision=precision,
        )
        for name, path in zip(short_names(weights), weights)
    ]
    unnamed_paths = [file.path for file in files if not file.is_named]
    names = dict(zip(unnamed_paths, short_names(unnamed_paths)))
    model_specs += [FileModelSpec(names.get(file.path, file.name), file.path) for file in files]
    check_names([as_file_name(model_spec.name) for model_spec in model_specs])
    return tuple(model_specs)


def _choose_prototxt(options: argparse.Namespace, weights: pathlib.Path) -> pathlib.Path:
    if options.prototxt:
        return require_file(options.prototxt, "deploy net")
    return find_deploy_net(weights, options.variant, options.without)


def check_predictions_fit(
    files: Sequence[PredictionsFile],
    records: dict[str, Any],
    sample_ids: Sequence[SampleId],
) -> None:
    """Check that each predictions file has an image of the set, and none that stands for two.

    Args:
        files: The predictions files, which know the splits of the set.
        records: {split: its records}, as `data_tools.sets.open_sets` returns them.
        sample_ids: The samples to evaluate.

    Raises:
        UserError: A predictions file has none of the samples, as its keys are of another set, or
            has an image that stands for two.
    """
    if not files:
        return
    keys = [
        records[each.split][each.index].sample().key
        for each in progress_bar(sample_ids, desc="keys", unit="img", delay=2, leave=False)
    ]
    for file in files:
        if not any(map(file.entry, keys)):
            raise UserError(
                f"{file.path} has none of the {len(keys)} images: it has keys like "
                f"{next(iter(file.images))!r}; give keys like {keys[0]!r}, or the images' paths"
            )
        file.check_no_image_twice(keys)
        others = file.other_images(keys)
        if others:
            _log.warning(
                "%s: %d of its %d images are none of those that are measured, such as %r",
                file.path,
                len(others),
                len(file.images),
                others[0],
            )


def split_scores(scores: ModelScores, samples: Sequence[EvaluatedSample]) -> dict[str, ModelScores]:
    """Return a model's scores split by split; of several splits, those of all together first.

    Args:
        scores: The model's scores of the N samples.
        samples: The N evaluated samples.
    """
    splits = np.array([sample.id.split for sample in samples])
    scores_by_split = {
        split: scores.select(splits == split) for split in dict.fromkeys(splits.tolist())
    }
    return scores_by_split if len(scores_by_split) == 1 else {TOTAL: scores, **scores_by_split}


def check_split_names(splits: Sequence[str]) -> None:
    """Check that no split has the name of all splits together.

    Raises:
        UserError: One of several splits has.
    """
    if len(splits) > 1 and TOTAL in splits:
        raise UserError(
            f"--split {TOTAL}: several splits are measured together under this name: rename the "
            "split, or measure it alone"
        )


def describe_model(model_spec: ModelSpec) -> ModelResults:
    """Return what results.json says of a model, without its numbers."""
    if isinstance(model_spec, FileModelSpec):
        return {"name": model_spec.name, "predictions": str(model_spec.path)}
    weights = describe(model_spec.weights)
    levels, looks = model_spec.levels, model_spec.looks
    if not has_pose_stage(model_spec.prototxt):
        levels, looks = 1, None  # its mask is that of a single pass, whatever the options say
    return {
        "name": model_spec.name,
        "weights": weights,
        "prototxt": str(model_spec.prototxt),
        "engine": engine_title(model_spec.engine, model_spec.precision),
        "levels": levels,
        "looks": choose_look_count(levels, looks),
        "search": searches_after_looks(levels, looks, read_calibration(weights)),
    }


def _log_model(description: ModelResults) -> None:
    """Log in one line which model is measured and what is known of its weights.

    Args:
        description: What `describe_model` says of it.
    """
    facts: dict[str, Any] = {**description}
    facts = {**facts.pop("weights", {}), **facts}
    name = facts.pop("name")
    known = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
    _log.info("%s: %s", name, known)


def write_results(
    options: argparse.Namespace,
    model_specs: Sequence[ModelSpec],
    samples: list[EvaluatedSample],
    *,
    scores: dict[str, ModelScores],
    results: Results,
    load_sample: Callable[[EvaluatedSample], Sample],
) -> None:
    """Write the files that the command's help names, all or none.

    Args:
        options: The command's options.
        model_specs: The compared models.
        samples: The N evaluated samples.
        scores: {name of the model: its scores of the N samples}.
        results: The content of results.json.
        load_sample: Loads a sample with its image.
    """
    out = options.out
    contents = {
        out / RESULTS: to_json(results),
        out / IMAGES: images_csv(samples, scores, options.thresholds),
    }
    if any(result.distances is not None for result in scores.values()):
        for name, draw in zip(FIGURES, (draw_sets, draw_groups)):
            contents[out / name] = draw(results["models"])
    for index, model_spec in enumerate(model_specs):
        model_scores = scores[model_spec.name]
        contents |= _make_model_files(out, model_spec, index, samples, model_scores, load_sample)
    out.mkdir(parents=True, exist_ok=True)
    write_together(contents, earlier=[out / name for name in _list_result_names(model_specs)])


def _make_model_files(
    out: pathlib.Path,
    model_spec: ModelSpec,
    index: int,
    samples: list[EvaluatedSample],
    scores: ModelScores,
    load_sample: Callable[[EvaluatedSample], Sample],
) -> dict[pathlib.Path, bytes]:
    """Return the page of the worst images and, if the model is a network, its predictions.

    Args:
        out: The folder.
        model_spec: The model.
        index: The model's index in each sample's predictions.
        samples: The N evaluated samples.
        scores: The model's scores of these.
        load_sample: Loads a sample with its image.
    """
    worst, predictions = (out / name for name in _model_files(model_spec))
    contents = sheet.make_page_files(worst_tiles(samples, scores, index, load_sample), worst)
    if not isinstance(model_spec, NetModelSpec):
        return contents
    key, count = Counter(sample.key for sample in samples).most_common(1)[0]
    if count > 1:
        _log.warning(
            "%d images have the key %s: %s is not written; rename them", count, key, predictions
        )
    elif scores.distances is not None:
        keypoints = {
            sample.key: points
            for sample in samples
            if (points := sample.predictions[index].keypoints) is not None
        }
        contents[predictions] = format_predictions(model_spec.name, keypoints)
    return contents


def _model_files(model_spec: ModelSpec) -> tuple[str, str]:
    """Return the names of a model's files: of its worst images and of a net's predictions."""
    file_name = as_file_name(model_spec.name)
    return f"worst_{file_name}.png", f"predictions_{file_name}.json"


def _list_result_names(model_specs: Sequence[ModelSpec]) -> list[str]:
    """Return the names of all files that an evaluation of the models may write."""
    names = [RESULTS, IMAGES, *FIGURES]
    for model_spec in model_specs:
        worst, predictions = _model_files(model_spec)
        names += [worst, predictions] if isinstance(model_spec, NetModelSpec) else [worst]
    return names


def check_out(out: pathlib.Path, model_specs: Sequence[ModelSpec]) -> None:
    """Check that the results replace no file of the user's and no input.

    Raises:
        UserError: They would.
    """
    names = _list_result_names(model_specs)
    inputs = [
        model_spec.weights if isinstance(model_spec, NetModelSpec) else model_spec.path
        for model_spec in model_specs
    ]
    real_out = pathlib.Path(os.path.realpath(out))
    for path in inputs:
        if path.is_dir() and real_out.is_relative_to(os.path.realpath(path)):
            raise UserError(
                f"--out {out} lies in {path}, of which all files are read as predictions: give "
                "another folder"
            )
    for name in names:
        check_target(out / name, inputs)
    check_own_results(out, names, own=RESULTS, mark='"curve_thresholds": ')


def _warn_of_turned(samples: Sequence[EvaluatedSample]) -> None:
    """Warn of samples whose labels may not fit their images' pixels."""
    if turned_count := sum(sample.is_turned for sample in samples):
        _log.warning(
            "%d samples are of images with an EXIF orientation; labels and predictions are taken "
            "to refer to the pixels as stored (--orientation upright says otherwise)",
            turned_count,
        )


def _summarise_splits(
    scores: ModelScores, samples: Sequence[EvaluatedSample], thresholds: Sequence[float]
) -> dict[str, SetNumbers]:
    """Return a model's numbers in each split, as results.json has them."""
    return {
        split: part.summarise(thresholds) for split, part in split_scores(scores, samples).items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate the models that the options name; print the tables and write the files."""
    options = parse_arguments(argv)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: give a folder")
    check_folder(options.out)
    set_threads(1)  # the order of a sum, and so its last digit, may depend on their number
    files = [PredictionsFile(path, set_path=options.data) for path in options.predictions]
    model_specs = make_model_specs(options, files)
    check_out(options.out, model_specs)
    upright = options.orientation == sets.UPRIGHT
    records = sets.open_sets(options.data, upright=upright)  # last, as it may take minutes
    key_splits = sets.list_key_splits(records)
    for file in files:
        file.splits = key_splits
    splits = sets.choose_splits(options.data, list(records), options.split)
    check_split_names(splits)
    sample_ids = [
        SampleId(split, index)
        for split in splits
        for index in range(len(records[split]))[: options.limit]
    ]
    check_predictions_fit(files, records, sample_ids)
    processes = options.processes or (len(os.sched_getaffinity(0)) if options.gpu is None else 1)
    descriptions = [describe_model(model_spec) for model_spec in model_specs]
    for description in descriptions:
        _log_model(description)

    job = EvaluationJob(options.data, model_specs, upright)
    samples = run_models(job, sample_ids, processes)
    _warn_of_turned(samples)
    scores = {
        model_spec.name: score_model(samples, index) for index, model_spec in enumerate(model_specs)
    }
    evaluated_counts = Counter(sample.id.split for sample in samples)
    results: Results = {
        "data": str(options.data),
        "orientation": options.orientation,
        "sets": {
            split: {"samples": len(records[split]), "evaluated": evaluated_counts[split]}
            for split in splits
        },
        "curve_thresholds": CURVE_THRESHOLDS.tolist(),
        "models": [
            {
                **description,
                "sets": _summarise_splits(scores[description["name"]], samples, options.thresholds),
            }
            for description in descriptions
        ],
    }
    write_results(
        options,
        model_specs,
        samples,
        scores=scores,
        results=results,
        load_sample=lambda sample: records[sample.id.split][sample.id.index].sample(),
    )
    print(markdown_tables(results["models"]))
    _log.info("%s: %s, %s and figures", options.out, RESULTS, IMAGES)


if __name__ == "__main__":
    run_command(main)
