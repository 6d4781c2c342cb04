"""Runs a training in a process of its own, for commands that go on after it."""

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import (
    asks_for_end_at_once,
    stop_signals_handled,
    terminate_with_parent,
)
from mcc_caffe.core.start import stop_error


def run_training(arguments: Sequence[Any]) -> None:
    """Run `mcc_caffe.train` in a process of its own.

    The `stop_signals` are passed on to it, so that it takes a snapshot and ends. Then this command
    ends too. If this command is killed, the training ends in the same way.

    Args:
        arguments: Arguments of mcc_caffe.train.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the training; Terminated: SIGTERM or SIGHUP did.
        UserError: The training failed.
    """
    signals: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not signals or asks_for_end_at_once(number, signals):
            for process in processes:
                process.terminate()
        signals.append(number)

    with stop_signals_handled(pass_on):
        process = subprocess.Popen(
            [sys.executable, "-m", "mcc_caffe.train", *map(str, arguments)],
            start_new_session=True,
            preexec_fn=functools.partial(terminate_with_parent, os.getpid()),
        )
        processes.append(process)
        if signals:  # from before there was a process to pass them on to
            process.terminate()
        status = process.wait()
    if signals:
        raise stop_error(signals[0])
    if status:
        raise UserError(
            f"the training ended with exit code {status} (see above): "
            "mend that and run the command again"
        )
