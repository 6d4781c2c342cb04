"""Draws COCO's segmentations as masks: polygons, and run lengths, compressed or not."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_masks

from mcc_caffe.core.errors import SampleError

_LONGEST_OUTLINE = 1_000_000  # pixels, of a hand's polygons, as drawing takes memory with them


def draw_mask(segmentation: Any, size: tuple[int, int], location: str) -> np.ndarray | None:
    """Draw a segmentation as a mask, which may have no pixel.

    Args:
        segmentation: An object of run lengths, or a list of polygons.
        size: (width, height) of the image in pixels.
        location: File and record, for messages.

    Returns:
        HxW uint8 of {0, 1}; None where all polygons are empty or only boxes.

    Raises:
        SampleError: The segmentation is malformed, or of another size.
    """
    try:
        if isinstance(segmentation, dict):
            return draw_run_lengths(segmentation, size)
        polygons = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
        polygons = [polygon for polygon in polygons if len(polygon)]
        for polygon in polygons:
            # Drawing takes time with the distance. Real polygons end at the image's edge.
            if not (np.abs(polygon) <= 10 * max(size)).all():
                raise ValueError(f"it goes to {polygon.ravel()[np.abs(polygon).argmax()]}")
        length = sum(np.abs(np.diff(polygon, axis=0)).sum() for polygon in polygons)
        if length > _LONGEST_OUTLINE:
            raise ValueError(f"its outline is {length:.0f} pixels long")
        if all(_is_box(polygon) for polygon in polygons):
            return None
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise SampleError(
            f"{location}: the segmentation cannot be read ({str(error)[:200]}): "
            "polygons or run lengths are needed"
        ) from None
    return _draw_polygons([polygon for polygon in polygons if len(polygon) > 2], size)


def _draw_polygons(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Draw polygons (N, 2) of three points or more as COCO's own tools do.

    Args:
        polygons: Their points in pixels, counted from the image's corner.
        size: (width, height) of the image.

    Returns:
        HxW uint8 of {0, 1}, 1 in any of them.
    """
    if not polygons:
        return np.zeros(size[::-1], np.uint8)
    width, height = size
    runs = coco_masks.frPyObjects([polygon.ravel() for polygon in polygons], height, width)
    counts = coco_masks.merge(runs)["counts"].decode()
    return draw_run_lengths({"size": (height, width), "counts": counts}, size)


def _is_box(polygon: np.ndarray) -> bool:
    """Tell whether a polygon (N, 2) fills its own bounding box."""
    width, height = np.ptp(polygon, axis=0)
    return bool(np.isclose(cv2.contourArea(polygon.astype(np.float32)), width * height, rtol=1e-3))


def draw_run_lengths(segmentation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Draw the mask of COCO's run lengths, of 0 and 1 in turn down the columns.

    Args:
        segmentation: "size", (H, W), and "counts", compressed or as numbers.
        size: (W, H) of the image.

    Returns:
        HxW uint8 of {0, 1}.

    Raises:
        KeyError, TypeError, ValueError: They are no run lengths of an image of this size.
    """
    height, width = segmentation["size"]
    if (width, height) != size:
        raise ValueError(f"its mask is {width} x {height}, the image {size[0]} x {size[1]}")
    # Not by pycocotools: where runs are too few, it returns pixels that nobody has drawn.
    counts = segmentation["counts"]
    runs = np.array(_decompress(counts) if isinstance(counts, str) else counts)
    if runs.ndim != 1 or runs.dtype.kind != "i" or (runs < 0).any():
        raise ValueError("the runs are no whole numbers from 0 on")
    if runs.astype(float).sum() != width * height:
        raise ValueError(f"the runs have {runs.astype(float).sum():.0f} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    return flat.reshape(width, height).T.astype(np.uint8)


def _decompress(text: str) -> list[int]:
    """Decode the run lengths of COCO's compressed form.

    A number is written in groups of 5 bits, the lowest first, as characters from "0" on. A group
    has 32 added where more follow, and the highest bit of the last one is the sign. From the fourth
    number on, a number is the difference from the last but one.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - ord("0")
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"{character!r} does not belong into compressed runs")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    return runs
