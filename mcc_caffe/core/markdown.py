"""Writes Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from mcc_caffe.core.errors import escape_unprintable


def markdown_table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table, without a line break at its end.

    Args:
        columns: The titles of the columns.
        rows: The cells of each row, which `str` turns into text. A cell may be the name of a file,
            with any character.
    """
    ruler = ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(map(_escape_cell, row))} |" for row in (columns, ruler, *rows))


def number_cell(number: float | None, digits: int) -> str:
    """Return a number with so many decimals, and a dash for None."""
    return "-" if number is None else f"{number:.{digits}f}"


def _escape_cell(cell: Any) -> str:
    """Return a cell's text, in which nothing ends the cell or the line."""
    return escape_unprintable(str(cell)).replace("|", r"\|")
