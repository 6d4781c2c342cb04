"""Encoded pictures, also such as the EXIF orientation tells programs to turn."""

import io

import cv2
import numpy as np
import PIL.Image

ORIENTATION = 0x0112  # the number of the EXIF tag


def encoded(picture: np.ndarray, ending: str = ".png") -> bytes:
    """Encode a picture as OpenCV does for files with an ending."""
    return cv2.imencode(ending, picture)[1].tobytes()


def orientation_tags(orientation: int) -> PIL.Image.Exif:
    """Return EXIF data that say nothing but an orientation, 1 to 8."""
    tags = PIL.Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def oriented_picture(pixels: np.ndarray, kind: str, orientation: int, **options) -> bytes:
    """Encode a picture that is stored as it is, and shown as its EXIF orientation says.

    Args:
        pixels: HxWx3 uint8 RGB, or HxW uint8.
        kind: Pillow's name of a format, such as "JPEG".
        orientation: 1 to 8.
        options: Those of the format, for Pillow.
    """
    content = io.BytesIO()
    exif = orientation_tags(orientation)
    PIL.Image.fromarray(pixels).save(content, kind, exif=exif, **options)
    return content.getvalue()
