"""Encoded images, also such as the EXIF orientation tells programs to turn."""

import io
import pathlib

import cv2
import numpy as np
import PIL.Image
import pytest

ORIENTATION = 0x0112  # the number of the EXIF tag


def encoded(image: np.ndarray, ending: str = ".png") -> bytes:
    """Encode an image as OpenCV does for files with an ending."""
    return cv2.imencode(ending, image)[1].tobytes()


def orientation_tags(orientation: int) -> PIL.Image.Exif:
    """Return EXIF data that say nothing but an orientation, 1 to 8."""
    tags = PIL.Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def oriented_image(pixels: np.ndarray, kind: str, orientation: int, **options) -> bytes:
    """Encode an image that is stored as it is, and shown as its EXIF orientation says.

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


def replace_once_read(monkeypatch: pytest.MonkeyPatch, path: pathlib.Path, content: bytes) -> None:
    """Let a file be replaced as soon as it has been read for the first time from now on."""
    read_bytes, contents = pathlib.Path.read_bytes, [content]

    def read_then_replace(self):
        old_content = read_bytes(self)
        if self == path and contents:
            path.write_bytes(contents.pop())
        return old_content

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_then_replace)
