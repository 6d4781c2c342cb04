"""Writes the solver of every training net: `python -m solver.generate` (`make prototxt`)."""
import argparse
import json
import pathlib

from mcc_caffe.paper import ABLATIONS, VARIANTS, Variant, file_suffix
from prototxt.generate import write

HEADER = "# Written by `make prototxt` (solver/generate.py): change that, not this file.\n"

# Why a variant departs from the paper, by field of its Schedule.
REASONS = {
    ("mini", "type"): "at 5e-5 SGD hardly moves on 16 x 16 maps, whose summed loss is a tenth as large",
    ("mini", "base_lr"): "for Adam",
    ("mini", "stepsize"): "the paper's schedule, five times as short",
    ("mini", "max_iter"): "520,000 samples: two hours on 2 cores",
    ("mini", "snapshot"): "every 3 to 5 minutes on 2 cores",
}


def solver(variant: Variant, without: str = None, net: str = None) -> str:
    """Prototxt of the solver, each line with its reason. net: path of the training net, where it is not the one that ships."""
    suffix = file_suffix(without)
    net = net or f"prototxt/{variant.name}/train{suffix}.prototxt"
    schedule = variant.schedule
    lines = [
        ("net", json.dumps(net), f"{variant.batch_size} images a process (3.3), {variant.trunk_filler} and {variant.stage_filler} start"),
        ("type", f'"{schedule.type}"', "3.3"),
        ("base_lr", schedule.base_lr, "3.3"),
        ("lr_policy", '"step"', "3.3"),
        ("gamma", schedule.gamma, "3.3"),
        ("stepsize", schedule.step_size, "3.3"),
        ("max_iter", schedule.max_iter, "3.3"),
        ("momentum", schedule.momentum, "3.3"),
        ("weight_decay", schedule.weight_decay, "not in the paper; Caffe's and [9]'s usual value"),
        ("snapshot", schedule.snapshot, "not in the paper"),
        ("snapshot_prefix", f'"runs/{variant.name}{suffix}/snapshots/mcc"', "mcc_caffe.train sets its own run's"),
        ("random_seed", 0, "the same start every time"),
        ("display", 0, "mcc_caffe.train shows the progress"),
    ]
    if schedule.type == "Adam":
        lines.insert(8, ("momentum2", 0.999, "Adam's usual value"))
    text = HEADER
    for field, value, reason in lines:
        reason = REASONS.get((variant.name, field), reason)
        text += f"{f'{field}: {value}':<60}# {reason}\n"
    return text


def solvers() -> dict:
    """{relative path: prototxt} of every solver."""
    return {
        f"{variant.name}/solver{file_suffix(without)}.prototxt": solver(variant, without)
        for variant in VARIANTS.values()
        for without in (None, *ABLATIONS)
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    write(solvers(), pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
