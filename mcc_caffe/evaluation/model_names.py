"""The names of the models that a command compares, and of the sets that it measures on."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mcc_caffe.core.errors import UserError, escape_unprintable


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the ends of the paths, files' without suffix, as short as tells them apart.

    What cannot be printed is escaped.
    """
    absolute_paths = [Path(os.path.abspath(path)) for path in paths]  # "." and ".." are no names
    path_parts = [
        (path if path.is_dir() else path.with_suffix("")).parts for path in absolute_paths
    ]
    for length in range(1, max(map(len, path_parts), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in path_parts]
        if len(set(names)) == len(set(path_parts)):
            return [escape_unprintable(name) for name in names]
    return []


def check_names(names: Sequence[str], kind: str = "models") -> None:
    """Check that no two models, or sets, have one name.

    Args:
        names: Their names, in the form in which they have to differ.
        kind: What the error calls them.

    Raises:
        UserError: Two of them have the same name.
    """
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(
            f"two {kind} are called {repeated[0]}: "
            "give each once, and rename one where they are different"
        )


def as_file_name(name: str) -> str:
    """Return a name in the form in which it can be a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)
