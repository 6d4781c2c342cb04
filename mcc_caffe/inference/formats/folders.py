"""A folder of results, written completely or not at all."""

from collections.abc import Mapping
from pathlib import Path

from mcc_caffe.core.files import cannot_write, folder_being_written, replace_folder


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; one that is there already is replaced, and a link to it stays.

    Args:
        folder: The folder, whose own folder exists.
        files: {name: content}.

    Raises:
        UserError: It cannot be written, or another process writes it.
    """
    try:
        with folder_being_written(folder) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            replace_folder(partial, folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
