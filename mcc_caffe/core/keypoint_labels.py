"""Checks the numbers of a label, and makes keypoints of them as a sample holds them.

In every function `location` names a file and its line or record, and begins every message.
"""

from typing import Any

import numpy as np

from mcc_caffe.core.errors import SampleError

LARGEST_SHARE = 1  # of a landmark in the image
_TOLERATED_SHARE = 2  # a tolerance: a landmark outside the image goes beyond 1
# Of fewer points than this all may lie between 1 and 2 in pixels, as two fingertips of a hand that
# the image's corner cuts.
_MANY_POINTS = 5


def as_real_numbers(values: Any, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Return numbers, which may be text as in label files, as an array of floats of any shape.

    Raises:
        ValueError: They are no numbers, too large, or complex, of which NumPy would take the real
            parts alone.
    """
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise ValueError("complex numbers")
        return np.asarray(array, dtype)
    except (OverflowError, TypeError) as error:
        raise ValueError(str(error)) from None


def parse_numbers(values: Any, shape: tuple[int, ...], *, location: str, field: str) -> np.ndarray:
    """Turn a label's value into an array of numbers.

    Args:
        values: Nested or flat lists of numbers, as a label file has them, or None.
        shape: Shape of the array. Of a flat list only the count of numbers has to agree.
        location: File and record, for messages.
        field: Name of the value, for messages.

    Returns:
        float64 of `shape`.

    Raises:
        SampleError: `values` is missing, is not numeric, or has another count or shape, such as
            that of a transposed array.
    """
    try:
        array = as_real_numbers(values)
    except ValueError:
        array = None
    if values is None:
        content = "missing"
    elif array is None:
        content = "no array of real numbers"
    elif array.size != np.prod(shape):
        content = f"{array.size} numbers"
    elif array.ndim > 1 and array.shape != shape:
        content = f"{_shape_text(array.shape)} numbers"
    else:
        return array.reshape(shape)
    raise SampleError(f"{location}: {field} is {content}, {_shape_text(shape)} numbers are needed")


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def make_keypoints(xy: np.ndarray, labelled: np.ndarray, location: str) -> np.ndarray:
    """Return the keypoints as a `Sample` holds them.

    Args:
        xy: (21, 2) x, y in pixels.
        labelled: (21,) bool.
        location: File and record, for messages.

    Returns:
        (21, 3) float32 of x, y, v; a keypoint that is not labelled is (-1, -1, 0).

    Raises:
        SampleError: A labelled keypoint is not finite, or the keypoints are shares of the image's
            sides instead of pixels.
    """
    check_pixels(xy[labelled], location)
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
        keypoints = mark_missing(xy, labelled)
    finite = np.isfinite(keypoints).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise SampleError(
            f"{location}: keypoint {index} is labelled at {xy[index].tolist()}: finite pixels are "
            "needed, or mark it as missing"
        )
    return keypoints


def check_pixels(xy: np.ndarray, location: str) -> None:
    """Check that a hand's keypoints (N, 2) are pixels; SampleError where they are shares."""
    limit = _TOLERATED_SHARE if len(xy) >= _MANY_POINTS else LARGEST_SHARE
    if len(xy) > 1 and are_shares(xy, limit):
        raise SampleError(f"{location}: {describe_shares('all keypoints', limit)}")


def are_shares(coordinates: np.ndarray, limit: int = _TOLERATED_SHARE) -> bool:
    """Tell whether coordinates of a hand, of any shape, are shares of its image's sides.

    Args:
        coordinates: Those of keypoints or boxes.
        limit: The largest share, in either direction.
    """
    return bool((np.abs(coordinates) <= limit).all())


def describe_shares(subject: str, limit: int = _TOLERATED_SHARE) -> str:
    """Return what a message says of shares of the sides.

    Args:
        subject: What they are, in the plural, such as "all keypoints".
        limit: As `are_shares` takes it.
    """
    return (
        f"{subject} lie between -{limit} and {limit}, as shares of the image's sides do: "
        "pixels are needed, multiply them by the image's width and height"
    )


def check_visibilities(
    values: np.ndarray, location: str, *, highest: int, may_be_scores: bool = False
) -> None:
    """Check that 21 visibilities are what their format admits.

    Args:
        values: (21,) numbers.
        location: File and record, for messages.
        highest: The highest visibility, 1 or 2.
        may_be_scores: Whether they may lie between whole numbers.

    Raises:
        SampleError: A visibility is something else, as where the numbers have another order than
            x, y, v.
    """
    admitted = (values >= 0) & (values <= highest)  # NaN is not
    if not may_be_scores:
        admitted &= values == np.rint(values)
    if not admitted.all():
        index = int(np.flatnonzero(~admitted)[0])
        integers = "0 or 1" if highest == 1 else "0, 1 or 2"
        needed = f"0 to {highest}" if may_be_scores else integers
        raise SampleError(
            f"{location}: the visibility of keypoint {index} is {values[index]:g}: {needed} is "
            "needed, and the order x, y, visibility, keypoint by keypoint"
        )


def mark_missing(xy: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return (21, 3) float32 of x, y, v, where what is not labelled is (-1, -1, 0)."""
    return np.where(labelled[:, None], np.column_stack([xy, labelled]), (-1, -1, 0)).astype(
        np.float32
    )
