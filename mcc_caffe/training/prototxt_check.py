"""Checks a user's solver before a training, where Caffe itself would abort or train nothing.

It looks at what Caffe itself looks at only when it trains; for the rest, and for the net,
`mcc_caffe.caffe_io.trial_build` lets Caffe build them in a process of its own.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io.protobuf import is_repeated
from mcc_caffe.caffe_io.snapshots import SOLVERS
from mcc_caffe.core.errors import UserError

# The fields of a SolverParameter for which this project has another place.
_ELSEWHERE = {
    "solver_type": 'write type: "..." instead',
    "weights": "leave it out and give --weights FILE",
    **dict.fromkeys(
        ("net_param", "train_net", "train_net_param", "train_state"), 'write net: "..." instead'
    ),
    **dict.fromkeys(
        ("test_net", "test_net_param", "test_iter", "test_state"),
        "leave it out and measure with python -m mcc_caffe.evaluate",
    ),
}
# Learning rate policies, with the fields that must be above 0 in each: with a gamma of 0, which is
# Caffe's default, the rate is 0 after the first step. The rate of "sigmoid" falls where gamma is
# below 0.
_POLICIES = {
    "fixed": (),
    "step": ("stepsize", "gamma"),
    "exp": ("gamma",),
    "inv": ("gamma",),
    "multistep": ("gamma",),
    "sigmoid": ("stepsize",),
    "poly": (),
}


def check_solver(path: Path, solver: Any) -> None:
    """Check the fields of a SolverParameter.

    Args:
        path: Its file, for the errors.
        solver: The message.

    Raises:
        UserError: A field is missing, or its value would abort or spoil a training.
    """
    set_fields = {field.name for field, _ in solver.ListFields()}
    for name, remedy in _ELSEWHERE.items():
        if name in set_fields:
            raise UserError(f"{path} has {name}, which this command does not take: {remedy}")
    _check_choice(path, "solver type", solver.type, SOLVERS)
    check_finite(path, solver)
    _check_choice(path, "lr_policy", solver.lr_policy, _POLICIES)
    _check_choice(path, "regularization_type", solver.regularization_type, ("L1", "L2"))
    for name in ("base_lr", "max_iter", "average_loss", "iter_size", *_POLICIES[solver.lr_policy]):
        if getattr(solver, name) <= 0:
            raise UserError(
                f"{path}: {name} is {getattr(solver, name):g}, it must be above 0: "
                f"write a higher {name}"
            )
    for name in ("momentum", "momentum2", "rms_decay"):
        if not 0 <= getattr(solver, name) < 1:
            raise UserError(
                f"{path}: {name} is {getattr(solver, name):g}: give one from 0 to below 1"
            )
    for name in ("weight_decay", "delta", "snapshot"):
        if getattr(solver, name) < 0:
            raise UserError(f"{path}: {name} is {getattr(solver, name):g}: give 0 or more")
    if solver.type in ("AdaGrad", "RMSProp") and solver.momentum:
        raise UserError(
            f"{path}: {solver.type} takes no momentum, it is {solver.momentum:g}: leave it out"
        )
    if solver.snapshot_format != solver.BINARYPROTO:
        raise UserError(
            f"{path}: snapshot_format is HDF5, from which this command cannot resume: leave it out"
        )


def _check_choice(path: Path, field: str, value: str | bytes, choices: Any) -> None:
    """Raise UserError where a value is none of the choices."""
    if value not in choices:
        raise UserError(
            f"{path}: the {field} {value!r} is none of Caffe's: {', '.join(choices)}; give one"
        )


def check_finite(path: Path, message: Any) -> None:
    """Raise UserError where a number in a message of Caffe's is NaN or infinite."""
    for name, number in _numbers(message):
        if not math.isfinite(number):
            raise UserError(f"{path}: {name} is {number}: give a finite number")


def _numbers(message: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each floating point number in a message."""
    for field, value in message.ListFields():
        values = value if is_repeated(field) else [value]
        if field.message_type:
            for part in values:
                yield from _numbers(part, f"{prefix}{field.name}.")
        elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            yield from ((prefix + field.name, number) for number in values)
