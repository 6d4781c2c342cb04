"""The log of a run: `log.jsonl`, one JSON line an interval."""

import json
import pathlib

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, write_whole
from mcc_caffe.paper import MASK_LOSS_BLOB

LOG = "log.jsonl"


class Log:
    """Means over the interval, written to log.jsonl, one JSON line an interval. `images`: an iteration, of all ranks."""

    def __init__(self, run_folder: pathlib.Path, iteration: int, images: int):
        self.path, self._images = run_folder / LOG, images
        self._rows = []
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [
            line for line in lines if _logged_iteration(line) <= iteration
        ]  # a resumed run writes the rest again
        write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())

    def add(self, net, losses: dict, trivial: float, seconds: float, wait: float) -> None:
        """Takes note of one iteration."""
        total = sum(net.blob_loss_weights[name] * loss for name, loss in losses.items())
        self._rows.append([*losses.values(), total, trivial, seconds, wait])
        self._names = list(losses)

    @property
    def pending(self) -> bool:
        """Whether iterations were added since the last line."""
        return bool(self._rows)

    def write(self, iteration: int) -> str:
        """Appends the interval's line; returns what the progress bar shows of it."""
        *losses, total, trivial, seconds, wait = np.mean(self._rows, axis=0).tolist()
        losses = dict(zip(self._names, losses))
        ratios = {name: loss / trivial for name, loss in losses.items() if name != MASK_LOSS_BLOB}
        line = {
            "iteration": iteration,
            "loss": total,
            "losses": losses,
            "ratio_to_trivial": ratios,
            "images_per_second": self._images / seconds,
            "seconds": seconds,
            "data_wait": wait,
        }
        with open(self.path, "a") as log:
            log.write(json.dumps(line) + "\n")
        self._rows.clear()
        shown = [f"loss {total:.1f}"]
        if MASK_LOSS_BLOB in losses:
            shown.append(f"mask {losses[MASK_LOSS_BLOB]:.1f}")
        if ratios:
            shown.append(
                " ".join(f"{name} {losses[name]:.0f}" for name in ratios)
                + " (of trivial: "
                + " ".join(f"{ratio:.2f}" for ratio in ratios.values())
                + ")"
            )
        return ", ".join(shown + [f"{self._images / seconds:.1f} img/s", f"data wait {wait:.2f} s"])


def read_log(run: pathlib.Path) -> list:
    """The lines of a run's log as dicts; UserError where there are none."""
    try:
        lines = [json.loads(line) for line in existing(run / LOG, "log").read_text().splitlines()]
    except ValueError as error:
        raise UserError(f"{run / LOG} is damaged: {error}") from None
    if not lines:
        raise UserError(f"{run / LOG} is empty: the run has not reached its first interval")
    return lines


def _logged_iteration(line: str) -> float:
    """The iteration of a log line; infinite where a crash cut the line."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
