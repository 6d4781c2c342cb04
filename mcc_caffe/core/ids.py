"""The ids of pictures, hands and categories in COCO's files."""

from typing import Any


def id_text(value: Any) -> str | None:
    """Return an id as text, so that 7 and "7" are the same; None where it is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (int, str)) else None
