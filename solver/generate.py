"""Writes the solvers of every variant (`make prototxt`): `python -m solver.generate`."""

import json
import pathlib
from typing import Any

from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.paper import (
    ABLATIONS,
    FINE_TUNING_SCHEDULE,
    MINI,
    PAPER,
    RELEASED_SCHEDULE,
    VARIANTS,
    Variant,
    file_suffix,
)
from prototxt.generate import write

RELEASED = "release"  # the solver of the authors' files, beside the paper's own
FINE_TUNING = "fine_tuning"  # the solver for a start from weights that are good already
HEADER = "# Written by `make prototxt` (solver/generate.py): change that, not this file.\n"

# Why a variant departs from the paper, by (variant, field of the solver).
REASONS = {
    (RELEASED, "base_lr"): "release, as section 3.3",
    (RELEASED, "lr_policy"): "release; the paper steps down every 50,000 iterations",
    (RELEASED, "max_iter"): "release; the paper stops at 200,000",
    (RELEASED, "weight_decay"): "release",
    (RELEASED, "snapshot"): "release",
    (
        "mini",
        "type",
    ): "at 5e-5 SGD hardly moves on 16 x 16 maps, whose summed loss is a tenth as large",
    ("mini", "base_lr"): "for Adam",
    ("mini", "stepsize"): "a fifth as long as the paper's schedule",
    ("mini", "max_iter"): "520,000 samples: 1.4 to 8 hours on 2 cores",
    ("mini", "snapshot"): "every 2 to 12 minutes on 2 cores",
    (FINE_TUNING, "type"): "as solver.prototxt",
    (FINE_TUNING, "base_lr"): "a fifth of solver.prototxt's, which would first undo what is learnt",
    (FINE_TUNING, "lr_policy"): "it falls in a line to 0",
    (FINE_TUNING, "max_iter"): "39,000 samples: 20 to 60 minutes on 2 cores",
    (FINE_TUNING, "snapshot"): "every 3 to 10 minutes on 2 cores",
}


def solver(
    variant: Variant,
    *,
    without: str | None = None,
    net: str | None = None,
    kind: str | None = None,
) -> str:
    """Return the prototxt of a solver, each line with its reason.

    Args:
        variant: Size of the network and its settings.
        without: An ablation of section 4.2 (paper.ABLATIONS) or None.
        net: Path of the training net, where it is not the one that ships.
        kind: RELEASED for the schedule of the authors' files, FINE_TUNING for one to start from
            good weights, None for the variant's own.
    """
    suffix = file_suffix(without)
    net = net or f"prototxt/{variant.name}/train{suffix}.prototxt"
    schedule = {
        RELEASED: RELEASED_SCHEDULE,
        FINE_TUNING: FINE_TUNING_SCHEDULE,
        None: variant.schedule,
    }[kind]
    policies: dict[str | None, list[tuple[str, Any, str]]] = {
        RELEASED: [("lr_policy", '"fixed"', "")],
        FINE_TUNING: [("lr_policy", '"poly"', ""), ("power", 1, "a line")],
        None: [
            ("lr_policy", '"step"', "section 3.3"),
            ("gamma", schedule.gamma, "section 3.3"),
            ("stepsize", schedule.step_size, "section 3.3"),
        ],
    }
    fillers = dict.fromkeys((variant.trunk_filler, variant.stage_filler))
    start = f"weights start with {' and '.join(fillers)}"
    lines = [
        ("net", json.dumps(net), f"{variant.batch_size} images a process (section 3.3), {start}"),
        ("type", f'"{schedule.type}"', "section 3.3"),
        ("base_lr", schedule.base_lr, "section 3.3"),
        *policies[kind],
        ("max_iter", schedule.max_iter, "section 3.3"),
        ("momentum", schedule.momentum, "section 3.3"),
        *([("momentum2", 0.999, "Adam's usual value")] if schedule.type == "Adam" else []),
        ("weight_decay", schedule.weight_decay, "not in the paper; the release's"),
        ("snapshot", schedule.snapshot, "not in the paper"),
        (
            "snapshot_prefix",
            f'"runs/{variant.name}{suffix}/snapshots/mcc"',
            "mcc_caffe.train sets its own run's",
        ),
        ("random_seed", 0, "the same start every time"),
        ("display", 0, "mcc_caffe.train shows the progress"),
    ]
    text = HEADER
    for field, value, reason in lines:
        reason = REASONS.get((kind or variant.name, field), reason)
        text += f"{f'{field}: {value}':<60}# {reason}\n"
    return text


def solvers() -> dict[str, str]:
    """Return {relative path: prototxt} of every solver."""
    files = {
        f"{variant.name}/solver{file_suffix(without)}.prototxt": solver(variant, without=without)
        for variant in VARIANTS.values()
        for without in (None, *ABLATIONS)
    }
    files[f"{PAPER.name}/solver_release.prototxt"] = solver(PAPER, kind=RELEASED)
    files[f"{MINI.name}/solver_fine_tuning.prototxt"] = solver(MINI, kind=FINE_TUNING)
    return files


def main() -> None:
    """Run the command."""
    command_parser(__doc__).parse_args()
    write(solvers(), pathlib.Path(__file__).parent)


if __name__ == "__main__":
    run_command(main)
