"""The meaning of a mask's file, the same for data sets and for predictions.

A file of two values means hand by the higher one, whatever the values are: {0, 1}, {0, 255}, 8 or
16 bits. In a file of more values the upper half of the scale (0 to 1, to 255 or to 65,535, the
first that holds all values) is hand. Of colours the brightest channel counts. Where transparency
varies it is the mask. An EXIF orientation is ignored. What is unclear is an error.
COCO's files hold masks as run lengths, which `encode_run_lengths` writes.
"""

from typing import Any

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.images import ImageError, decode_stored_pixels, read_header

_SCALES = (1, 255, 65535)
_LABEL_MAX = 3  # more than two values up to this number are names of objects, not brightness


class MaskError(UserError):
    """A mask's file that cannot be read or whose meaning is unclear."""


def header_size(content: bytes) -> tuple[int, int] | None:
    """Read the size of an image without decoding it.

    Args:
        content: The bytes of the image's file.

    Returns:
        (width, height) as stored, in pixels; None where the header is not understood.

    Raises:
        UserError: It has more pixels than allowed (`mcc_caffe.core.images.max_megapixels`).
    """
    try:
        header = read_header(content)
    except ImageError as error:
        raise UserError(f"the image is too large: {error}") from None
    return (header.width, header.height) if header.width else None


def decode_mask_values(content: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a mask's file to one value a pixel.

    Args:
        content: The bytes of the file.
        size: (width, height) that the mask must have. It is compared before the file is decoded.

    Returns:
        HxW of the file's own type.

    Raises:
        MaskError: The bytes are no image, of another size, or colours and transparency disagree.
    """
    try:
        actual = header_size(content)
    except UserError as error:
        raise MaskError(f"the mask cannot be read: {error}") from None
    if size is not None and actual is not None and actual != size:
        raise MaskError(f"the mask is {actual[0]} x {actual[1]}, the image {size[0]} x {size[1]}")
    try:
        pixels = decode_stored_pixels(content)
    except ImageError as error:
        raise MaskError(f"the mask ({len(content)} bytes) cannot be decoded: {error}") from None
    if pixels.ndim == 2:
        return pixels
    values, alpha = pixels[..., :3].max(axis=2), pixels[..., 3:]
    if not alpha.size or alpha.min() == alpha.max():
        return values
    alpha = alpha[..., 0]
    low, high = values.min(), values.max()
    if low < high and _has_two_values(values) and ((values == high) != hand_pixels(alpha)).any():
        raise MaskError(
            "the mask's colours and its transparency show two different hands: "
            "save it without transparency"
        )
    return alpha


def hand_pixels(values: np.ndarray, *, soft: bool = False) -> np.ndarray:
    """Tell which pixels are hand.

    Args:
        values: HxW of any numbers from 0 on.
        soft: Whether the values may be probabilities, of which none need reach one half.

    Returns:
        HxW bool.

    Raises:
        MaskError: The values' meaning is unclear.
    """
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= _SCALES[-1]):
        raise MaskError(f"the mask has values from {low} to {high}: 0 to 255 are needed")
    if _has_two_values(values):
        return values == high if high > low else np.full(values.shape, bool(high > 0))
    scale = next(scale for scale in _SCALES if high <= scale)
    hand = values > scale / 2
    if not hand.any() and (not soft or high <= _LABEL_MAX):
        raise MaskError(
            f"it is unclear which pixels of the mask are hand: it has more than two values, the "
            f"highest {high}: save it with 0 and 255 only"
        )
    return hand


def _has_two_values(values: np.ndarray) -> bool:
    """Tell whether all values are the lowest or the highest."""
    return bool(((values == values.min()) | (values == values.max())).all())


def encode_run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask as COCO's compressed run lengths, for its JSON files.

    Args:
        mask: (H, W) of bool, or of 0 and 1.

    Returns:
        "size", [H, W], and "counts".
    """
    from pycocotools import mask as coco_masks  # here, as only COCO's files need it

    rle = coco_masks.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}
