"""What Matplotlib's figures show."""

from matplotlib.text import Text


def shown_text(text: Text) -> str:
    """Return what a text of a figure shows, which is no mathematics, without blanks around it."""
    shown, kind = text._preprocess_math(text.get_text())
    assert kind is False
    return shown.strip()
