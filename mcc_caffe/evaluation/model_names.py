"""The names of the models that a command compares."""

import re
from collections.abc import Sequence
from pathlib import Path

from mcc_caffe.core.errors import UserError


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the ends of the paths, without suffix, as short as tells them apart."""
    path_parts = [path.absolute().with_suffix("").parts for path in paths]
    for length in range(1, max(map(len, path_parts), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in path_parts]
        if len(set(names)) == len(set(path_parts)):
            return names
    return []


def check_names(names: Sequence[str]) -> None:
    """Check that no two models have one name.

    Raises:
        UserError: If two have.
    """
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(
            f"two models are called {repeated[0]}: "
            "give each file once, and other systems' predictions names of their own"
        )


def as_file_name(name: str) -> str:
    """Return a model's name in the form in which it can be a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)
