"""Matplotlib's pyplot without a display, names as labels, and a figure as the bytes of a PNG."""

import io
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["as_label", "as_png", "pyplot"]


def as_label(name: str) -> str:
    """Return a label by which Matplotlib shows a name as it is.

    Otherwise it takes what stands between two "$" for mathematics, and leaves a label that begins
    with "_" out of the legend.
    """
    label = name.replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def as_png(figure: "Figure", dpi: int = 110, program: str | None = None) -> bytes:
    """Encode a figure as PNG and close it.

    Args:
        figure: The figure.
        dpi: Pixels in an inch.
        program: The program that the file names as its "Software"; None for Matplotlib.
    """
    content = io.BytesIO()
    metadata = {"Software": program} if program else None
    figure.savefig(content, format="png", dpi=dpi, metadata=metadata)
    pyplot.close(figure)
    return content.getvalue()
