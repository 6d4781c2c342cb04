"""Makes edits to Caffe 1.0, and adds files to it.

`edits_cpu.py` and `edits_gpu.py` have them. Their text is part of a build's name in the cache: a
change to it makes every user build Caffe again.
"""

from dataclasses import dataclass
from pathlib import Path

from caffe_build.errors import EditError
from caffe_build.files import write_atomically


@dataclass(frozen=True)
class Edit:
    """In `file` (relative to the source tree), `old` becomes `new`, wherever it stands."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Addition:
    """A file of ours in the source tree: `text` as `file` (relative to the tree)."""

    file: str
    text: str


def addition(name: str, file: str) -> Addition:
    """Return the addition of the file `name` beside this module as `file` in the source tree."""
    return Addition(file, Path(__file__).with_name(name).read_text(encoding="utf-8"))


def edit_text(text: str, edit: Edit) -> str:
    """Return a text with the edit made, or unchanged where it was made before.

    Raises:
        EditError: The text has neither the old nor the new wording, so that this is another
            Caffe than the one that the edit was written for.
    """
    if edit.old in text:
        return text.replace(edit.old, edit.new)
    if edit.new in text:
        return text
    longest_line = max(map(str.strip, edit.old.splitlines()), key=len)
    raise EditError(
        f"{edit.file} lacks the text around {longest_line!r}: this source is not Caffe 1.0 "
        "(BVLC 99bd997), and the edits in caffe_build/edits_*.py do not fit it"
    )


def apply_edits(tree: Path, edits: tuple[Edit, ...]) -> None:
    """Make all edits in a source tree.

    Raises:
        EditError: As `edit_text` does, and if a file is missing.
    """
    for edit in edits:
        path = tree / edit.file
        if not path.is_file():
            raise EditError(f"{path} is missing: this source is not Caffe 1.0 (BVLC 99bd997)")
        before = path.read_text(encoding="utf-8")
        after = edit_text(before, edit)
        if after != before:  # an untouched file keeps its time stamp, and ninja its objects
            write_atomically(path, after)  # no later run could go on with half of it


def add_files(tree: Path, additions: tuple[Addition, ...]) -> None:
    """Write all additions into a source tree; a file that is the same stays untouched."""
    for added in additions:
        path = tree / added.file
        if not path.is_file() or path.read_text(encoding="utf-8") != added.text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, added.text)
