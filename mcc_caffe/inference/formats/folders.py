"""A folder of results, written completely or not at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from mcc_caffe.core.files import folder_being_written


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; one that is there already is replaced.

    Args:
        folder: The folder, whose own folder exists.
        files: {name: content}.
    """
    with folder_being_written(folder) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        if folder.is_dir():
            shutil.rmtree(folder)
        partial.replace(folder)
