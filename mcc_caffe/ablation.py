"""Tests the paper's two claims about its two stages (section 4.2) at a size that a CPU can train.

    python -m mcc_caffe.ablation                         # on synthetic hands that it makes itself
    python -m mcc_caffe.ablation --data data/lmdb --iterations 20000 --seeds 0 1 2 \\
        --report docs/ablation.md

Trains the mini variant three times with every seed, on equal samples: the full network, one
without the mask head and one without the pose stages. Then measures all of them on the validation
set. The report, with tables and figures, says whether the masks are better with the pose stage
(Table 1) and the keypoints with the mask (Fig. 9).

All files lie in --out. When the command runs again, it leaves finished trainings alone and goes on
with the one that was interrupted.
"""

import argparse
import logging
from collections.abc import Sequence

from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe import evaluate
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.evaluation.ablation_report import (
    FULL,
    NO_MASK,
    NO_POSE,
    FigureNames,
    draw_masks,
    draw_pck,
    format_report,
)
from mcc_caffe.evaluation.training_comparison import (
    TEST_HANDS,
    TRAIN_HANDS,
    check_settings,
    comparison_parser,
    count_samples,
    describe_setting,
    make_synthetic_set,
    read_results,
    train_once,
)

# The stage that each network lacks, in the words of mcc_caffe.train --without.
MISSING_STAGES = {FULL: None, NO_MASK: "mask", NO_POSE: "pose"}

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = comparison_parser("mcc_caffe.ablation", __doc__, "runs/ablation")
    options = parser.parse_args(argv)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        raise UserError(
            f"--seeds {' '.join(map(str, options.seeds))}: "
            "give at least two different ones, they show what is chance"
        )
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train and measure all networks, and write the report."""
    options = parse_arguments(argv)
    require_caffe("training")
    data = options.data or make_synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    sample_counts = count_samples(data)
    check_settings(options.out, {"data": str(data.absolute()), "batch_size": options.batch_size})
    trainings = [(network, seed) for seed in options.seeds for network in MISSING_STAGES]
    weights = []
    for network, seed in trainings:
        folder = options.out / f"{network.replace(' ', '_')}_seed{seed}"
        arguments = [data / TRAIN, "--variant", "mini", "--seed", seed]
        arguments += ["--batch-size", options.batch_size]
        if MISSING_STAGES[network]:
            arguments += ["--without", MISSING_STAGES[network]]
        weights.append(train_once(folder, f"{network}, seed {seed}", options.iterations, arguments))
    evaluation = options.out / "evaluation"
    single_pass = [str(data / VALIDATION), "--levels", "1", "--out", str(evaluation)]
    evaluate.main([*single_pass, "--weights", *map(str, weights)])
    results = read_results(evaluation, trainings)

    report = options.report or options.out / "ablation.md"
    figures = FigureNames(pck=f"{report.stem}_pck.png", masks=f"{report.stem}_masks.png")
    setting = describe_setting("mcc_caffe.ablation", options, sample_counts, "the `mini` variant")
    report.parent.mkdir(parents=True, exist_ok=True)
    write_whole(report.with_name(figures.pck), draw_pck(results))
    write_whole(report.with_name(figures.masks), draw_masks(results))
    write_whole(report, format_report(results, setting, figures).encode())
    print(format_report(results, setting, None))
    _log.info("%s: the same with figures", report)


if __name__ == "__main__":
    run_command(main)
