"""Writes Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table, without a line break at its end.

    Args:
        columns: The titles of the columns.
        rows: The cells of each row, which `str` turns into text.
    """
    ruler = ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (columns, ruler, *rows))
