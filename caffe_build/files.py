"""Writes files so that no other run finds them half-written."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a file completely or not at all, also where several processes write it at a time."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
