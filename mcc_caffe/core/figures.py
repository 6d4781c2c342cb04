"""Matplotlib's pyplot without a display, and a figure as the bytes of a PNG."""

import io

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first)


def as_png(figure, dpi: int = 110) -> bytes:
    """The figure as PNG; it is closed."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    pyplot.close(figure)
    return content.getvalue()
