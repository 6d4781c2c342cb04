"""Decodes image files: the one place that knows about orientation, depth, alpha and size.

OpenCV decodes the pixels, because it keeps 16 bits of colour, which Pillow does not. Pillow reads
the header: the size, before anything is decoded, and the orientation, which OpenCV misses in AVIF.
"""

import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import PIL.Image
import PIL.TiffImagePlugin

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.start import MAX_MEGAPIXELS, MAX_MEGAPIXELS_VARIABLE, OPENCV_LIMIT_VARIABLE

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 33  # the signature and the first chunk, IHDR
_PNG_METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")  # the chunks that may tell an orientation
_BMP_START = b"BM"
_ORIENTATION_TAG = 0x0112  # of EXIF; Pillow gives AVIF's irot and imir as if they were it
_TIFF_SIDES_TAGS = (256, 257)  # of width and height
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_EXTRA_SAMPLES_TAG = 338  # of TIFF: what a pixel holds beside its colours
_STRAIGHT_ALPHA = (2,)  # its value for an opacity by which the colours are not multiplied
_MULTIPLIED_ALPHA = (1,)
_NO_ALPHA = (0,)  # its value for anything else, such as a mask
_SAMPLES_TAG = 277  # of TIFF: how many numbers a pixel has
_WHITE_TAG, _WHITE_IS_ZERO = 262, 0  # of TIFF: what its numbers mean
_PLANES_TAG, _IN_PLANES = 284, 2  # of TIFF: whether the colours lie one behind the other
_MARK_BYTES = 1024  # from the start of a PNG, in which its mark lies
_PNG_BITS_OFFSET = 24  # of the byte in a PNG that says how many bits a sample has
# What the binary PNM formats begin with: three numbers, of which the last is that of white.
_PNM_START = re.compile(rb"P[56](?:\s+(?:#[^\n]*\n\s*)*(\d+)){3}\s")
_SENSOR_BITS = (8, 10, 12, 14, 16)  # that cameras put into 16
_WHITE = 255.0
_OPENCV_LIMIT = "CV_IO_MAX_IMAGE_PIXELS"  # how OpenCV's error names its limit

# What makes each EXIF orientation upright: whether to transpose, then flip rows, then columns.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


_PILLOW_BOUND_LOCK = threading.Lock()  # held while Pillow has another bound than it had


class ImageError(ValueError):
    """An image cannot be decoded. The message says why, without the file's name."""


class TooManyPixelsError(ImageError):
    """An image has more pixels than allowed."""


class ImageHeader(NamedTuple):
    """What the header of an image file says.

    Attributes:
        format: Pillow's name of the format, such as "JPEG"; "" where Pillow does not know it.
        mode: Pillow's name of what a pixel holds, such as "RGBA"; "" likewise.
        width: In pixels, as stored; 0 where unknown.
        height: In pixels, likewise.
        orientation: 1 to 8, as EXIF counts; 1 is upright.
        transparent_grey: The value of a grey PNG's transparent pixels, as stored; None without any.
        has_straight_alpha: Whether a TIFF says that its colours are not multiplied by its opacity.
        has_other_channel: Whether a TIFF says that what it has beside its colours is no opacity.
        is_negative: Whether white is 0 in a TIFF.
        is_in_planes: Whether a TIFF has first all of one colour, then all of the next.
        decoded_orientation: The orientation that OpenCV makes upright itself, whatever one asks: a
            TIFF's own, not that of the XMP in it; 1 in other formats.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    transparent_grey: int | None = None
    has_straight_alpha: bool = False
    has_other_channel: bool = False
    is_negative: bool = False
    is_in_planes: bool = False
    decoded_orientation: int = 1


def check_image(image: np.ndarray) -> None:
    """Raise a UserError where the array is no image."""
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"the image is {type(image).__name__}, no array: HxWx3 uint8 BGR is needed "
            "(cv2.imread gives None for a file that it cannot read)"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            f"the image is {image.dtype} of shape {image.shape}: HxWx3 uint8 BGR is needed"
        )


def open_with_pillow(file: Path | BinaryIO) -> PIL.Image.Image:
    """Open an image file with Pillow, which reads the header and decodes nothing yet.

    Pillow refuses images above a bound of its own. Ours takes its place meanwhile.

    Args:
        file: The file.

    Raises:
        TooManyPixelsError: The image has more pixels than allowed.
        Exception: The file is damaged, or no image: Pillow raises nearly anything.
    """
    bound = max_megapixels()
    with _PILLOW_BOUND_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # of half the bound
        pillows_bound = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = bound * 1e6 / 2  # type: ignore[assignment]
        try:
            return PIL.Image.open(file)
        except PIL.Image.DecompressionBombError as error:
            pixels = re.findall(r"\d+", str(error))[0]
            raise TooManyPixelsError(
                f"{pixels} pixels are more than {bound:g} million: make it smaller, or set "
                f"{MAX_MEGAPIXELS_VARIABLE}"
            ) from None
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = pillows_bound


def read_header(content: bytes) -> ImageHeader:
    """Read an image file's header, without decoding its pixels.

    Args:
        content: The file's bytes.

    Raises:
        TooManyPixelsError: The image has more pixels than allowed.
        UserError: As `max_megapixels` raises it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags
        try:
            image = open_with_pillow(io.BytesIO(content))
        except (ImageError, UserError):
            raise
        except Exception:  # damaged files make Pillow raise nearly anything
            if content.startswith(_TIFF_STARTS):
                return _read_tags_of_tiff(content)
            return ImageHeader("", "", 0, 0, 1)
        try:
            orientation = _read_exif(image, content).get(_ORIENTATION_TAG, 1)
        except Exception:
            orientation = 1
        try:
            tags = getattr(image, "tag_v2", {})
            tiff_fields = _tiff_fields(tags)
            decoded_orientation = tags.get(_ORIENTATION_TAG, 1)
            # Pillow gives the size of the upright image here.
            sides = map(tags.get, _TIFF_SIDES_TAGS) if image.format == "TIFF" else image.size
            width, height = sides
        except Exception:
            tiff_fields, decoded_orientation, (width, height) = {}, 1, image.size
    transparency = image.info.get("transparency")
    is_of_grey = image.format == "PNG" and image.mode != "P" and isinstance(transparency, int)
    return ImageHeader(
        image.format or "",
        image.mode,
        width,
        height,
        orientation if orientation in _TURNS else 1,
        transparent_grey=transparency if is_of_grey else None,
        **tiff_fields,
        decoded_orientation=decoded_orientation if decoded_orientation in _TURNS else 1,
    )


def _tiff_fields(tags: Any) -> dict[str, bool]:
    """Return the fields of an ImageHeader that a TIFF's tags alone tell.

    Args:
        tags: Has the tags' values by their numbers.
    """
    extra_samples = tags.get(_EXTRA_SAMPLES_TAG)
    return {
        "has_straight_alpha": extra_samples == _STRAIGHT_ALPHA,
        "has_other_channel": extra_samples == _NO_ALPHA,
        "is_negative": tags.get(_WHITE_TAG) == _WHITE_IS_ZERO,
        "is_in_planes": tags.get(_PLANES_TAG) == _IN_PLANES and tags.get(_SAMPLES_TAG, 1) > 1,
    }


def _read_exif(image: PIL.Image.Image, content: bytes) -> PIL.Image.Exif:
    """Return the EXIF tags of an open image; Pillow adds the orientation of its XMP.

    Those of a PNG may stand behind its pixels. Pillow would decode these to get there.
    """
    if image.format != "PNG":
        return image.getexif()
    metadata = [
        _png_chunk(content[start + 4 : end - 4])
        for kind, start, end in _png_chunks(content)
        if kind in _PNG_METADATA and end <= len(content)
    ]
    without_pixels = [content[:_PNG_HEADER_BYTES], *metadata, _png_chunk(b"IEND")]
    with open_with_pillow(io.BytesIO(b"".join(without_pixels))) as header:
        return PIL.Image.Image.getexif(header)


def _read_tags_of_tiff(content: bytes) -> ImageHeader:
    """Read the header of a TIFF of whose pixels Pillow does not know the kind, but OpenCV may."""
    try:
        tags = PIL.TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        width, height = (int(tags[tag]) for tag in _TIFF_SIDES_TAGS)
        orientation = tags.get(_ORIENTATION_TAG, 1)
        is_of_grey, extra_samples = tags.get(_SAMPLES_TAG) == 2, tags.get(_EXTRA_SAMPLES_TAG, ())
        tiff_fields = _tiff_fields(tags)
    except Exception:  # damaged files make Pillow raise nearly anything
        return ImageHeader("", "", 0, 0, 1)
    orientation = orientation if orientation in _TURNS else 1
    alpha_modes: dict[Any, str] = {_STRAIGHT_ALPHA: "LA", _MULTIPLIED_ALPHA: "La"}
    return ImageHeader(
        "TIFF",
        alpha_modes.get(extra_samples, "") if is_of_grey else "",
        width,
        height,
        orientation,
        **tiff_fields,
        decoded_orientation=orientation,
    )


def decode_image(content: bytes, *, upright: bool = True) -> np.ndarray:
    """Decode an image file.

    Transparent parts get a white background, as in a browser. 16-bit images are scaled by the bits
    that they use (8, 10, 12, 14 or 16), so that 12 bits in 16 do not come out black.

    Args:
        content: The file's bytes.
        upright: Whether to turn it by its EXIF orientation (AVIF: irot, imir).

    Returns:
        HxWx3 uint8 BGR.

    Raises:
        ImageError: It cannot be decoded; a TooManyPixelsError where it has more pixels than
            allowed.
        UserError: As `max_megapixels` raises it.
    """
    header = read_header(content)
    pixels = _decode_as_stored(content, header)
    # Of colours of 8 bits libtiff multiplies by the opacity itself.
    is_multiplied = header.format == "TIFF" and (
        not header.has_straight_alpha or (pixels.ndim == 3 and pixels.dtype == np.uint8)
    )
    pixels = _stretch_pnm(pixels, content)
    if pixels.ndim == 2:
        pixels = _add_alpha_of_grey(pixels, content, header)
    pixels = _to_bgr(_to_8_bits(pixels), premultiplied=is_multiplied)
    if upright:
        pixels = _turn(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def decode_pixels(content: bytes, flags: int) -> np.ndarray:
    """Decode an image file with OpenCV.

    Args:
        content: The file's bytes.
        flags: cv2.IMREAD_...

    Returns:
        The pixels as `flags` ask for them.

    Raises:
        ImageError: It cannot be decoded.
    """
    silence_opencv()
    pixels = None
    if content and not (content.startswith(_PNG_START) and _is_cut_png(content)):
        try:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error as error:  # too many pixels, or damaged in a certain way
            if error.code == cv2.Error.StsNoMem:
                raise ImageError("not enough memory for its pixels: make it smaller") from None
            if _OPENCV_LIMIT in str(error):
                raise TooManyPixelsError(
                    "it has more pixels than OpenCV may decode: make it smaller, or set "
                    f"{MAX_MEGAPIXELS_VARIABLE} (in Python {OPENCV_LIMIT_VARIABLE}, before OpenCV "
                    "is imported)"
                ) from None
    if pixels is None:
        raise ImageError(
            f"not a readable image ({len(content)} bytes): damaged, or of an unknown format"
        )
    is_bmp = content.startswith(_BMP_START)
    if is_bmp and pixels.shape[2:] == (4,) and read_header(content).mode == "RGB":
        pixels = pixels[..., :3]  # OpenCV takes a pixel's unused byte, mostly 0, for its opacity
    return pixels


def decode_stored_pixels(content: bytes) -> np.ndarray:
    """Decode an image file with OpenCV to the channels and the type that it has, as stored.

    Args:
        content: The file's bytes.

    Returns:
        HxW or HxWxC. No EXIF orientation has turned it. Of a TIFF in which white is 0 it is
        inverted, and has 8 bits.

    Raises:
        ImageError: It cannot be decoded.
        UserError: As `max_megapixels` raises it.
    """
    return _decode_as_stored(content, read_header(content))


def _decode_as_stored(content: bytes, header: ImageHeader) -> np.ndarray:
    pixels = decode_pixels(content, cv2.IMREAD_UNCHANGED)
    if pixels.dtype != np.uint8:  # of 8 bits libtiff sees to both itself
        if header.is_in_planes:
            raise ImageError(
                "its colours lie in planes of more than 8 bits: store them pixel by pixel "
                "(PlanarConfiguration 1), or with 8 bits"
            )
        if header.is_negative:
            # First to 8 bits: of samples with fewer bits than their type, white is not the type's.
            pixels = _to_8_bits(pixels)
            colours = pixels if pixels.ndim == 2 else pixels[..., :3]
            np.invert(colours, out=colours)
    if header.has_other_channel and pixels.shape[2:] == (4,):
        pixels = pixels[..., :3]
    return _turn(pixels, header.decoded_orientation, back=True)


def _is_cut_png(content: bytes) -> bool:
    """Tell whether a chunk of a PNG goes beyond its end; OpenCV would take that much memory."""
    return any(kind != b"IEND" and end > len(content) for kind, _, end in _png_chunks(content))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start and the end of each chunk of a PNG; the last one may be cut."""
    kind, end = b"", len(_PNG_START)
    while kind != b"IEND" and end + 8 <= len(content):
        start = end
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        yield kind, start, end


def _png_chunk(body: bytes) -> bytes:
    """Return a chunk of a PNG whose kind and content are the body."""
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def marked_png(image: np.ndarray, program: str) -> bytes:
    """Encode an image as a PNG file that says which program made it, as its "Software".

    Args:
        image: HxWx3 uint8 BGR.
        program: The program's name, in ASCII.
    """
    content = cv2.imencode(".png", image)[1].tobytes()
    chunk = _png_chunk(b"tEXtSoftware\0" + program.encode())
    return content[:_PNG_HEADER_BYTES] + chunk + content[_PNG_HEADER_BYTES:]


def is_png_of(path: Path, program: str) -> bool:
    """Tell whether a file is a PNG that a program has marked.

    Args:
        path: The file.
        program: The program's name, which `marked_png` or `core.figures.as_png` put into it.
    """
    with path.open("rb") as file:
        start = file.read(_MARK_BYTES)
    return start.startswith(_PNG_START) and f"Software\0{program}".encode() in start


def silence_opencv() -> None:
    """Keep OpenCV from writing on stderr about damaged files: our own errors say it."""
    set_level = getattr(cv2, "setLogLevel", None)  # releases differ in where it is
    (set_level or cv2.utils.logging.setLogLevel)(0)


def max_megapixels() -> float:
    """Return how many million pixels an image may have.

    Raises:
        UserError: The environment variable MCC_CAFFE_MAX_MEGAPIXELS is no number above 0.
    """
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE, "")
    try:
        bound = float(text or MAX_MEGAPIXELS)
    except ValueError:
        bound = 0.0
    if not 0 < bound < float("inf"):
        raise UserError(f"{MAX_MEGAPIXELS_VARIABLE} is {text!r}: give a number above 0")
    return bound


def _add_alpha_of_grey(pixels: np.ndarray, content: bytes, header: ImageHeader) -> np.ndarray:
    """Add the opacity that a grey PNG or TIFF has, and that OpenCV leaves out, to stored pixels.

    Returns:
        HxWx4, the last channel of which is the opacity; the same HxW where the file has none.

    Raises:
        ImageError: The file's opacity cannot be decoded.
    """
    if header.transparent_grey is not None:
        bits = content[_PNG_BITS_OFFSET]
        scale = 255 // (2**bits - 1) if bits < 8 else 1  # OpenCV stretches fewer bits to 8
        is_opaque = pixels != header.transparent_grey * scale
        alpha = np.where(is_opaque, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
    elif header.format == "TIFF" and header.mode in ("LA", "La"):
        try:
            alpha = np.array(open_with_pillow(io.BytesIO(content)).getchannel(1))
        except Exception:  # damaged files make Pillow raise nearly anything, as do 16 bits
            raise ImageError(
                "the opacity of its grey pixels cannot be read: store it as RGBA, or opaque"
            ) from None
        alpha = _turn(alpha, header.orientation, back=True)  # Pillow has turned it upright
    else:
        return pixels
    return np.dstack([pixels, pixels, pixels, alpha])


def _stretch_pnm(pixels: np.ndarray, content: bytes) -> np.ndarray:
    """Stretch a PNM's values to 8 bits where its header gives white another value than usual.

    OpenCV does so for the formats that hold their numbers as text, unless they exceed 8 bits.
    """
    start = _PNM_START.match(content)
    if start is None or int(start[1]) in (0, 255, 65535):
        return pixels
    return np.clip(np.round(pixels * 255.0 / int(start[1])), 0, 255).astype(np.uint8)


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        needed = int(pixels[..., :3].max() if pixels.ndim == 3 else pixels.max()).bit_length()
        bits = next(bits for bits in _SENSOR_BITS if bits >= needed)
        colours = (pixels[..., :3] if pixels.ndim == 3 else pixels) >> (bits - 8)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            return np.dstack([colours, pixels[..., 3] >> 8]).astype(np.uint8)
        return colours.astype(np.uint8)
    if pixels.dtype in (np.float32, np.float64) and 0 <= pixels.min() <= pixels.max() <= 1:
        return np.round(pixels * 255).astype(np.uint8)
    raise ImageError(
        f"its values are {pixels.dtype} from {pixels.min():g} to {pixels.max():g}, which is no "
        "brightness: store it with 8 or 16 bits"
    )


def _to_bgr(pixels: np.ndarray, premultiplied: bool) -> np.ndarray:
    """Return the colours of a grey, colour or alpha image, on white where it is transparent."""
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.shape[2] == 3:
        return pixels
    if pixels.shape[2] != 4:
        raise ImageError(f"it has {pixels.shape[2]} channels: store it as grey, RGB or RGBA")
    return on_white(pixels, premultiplied=premultiplied)


def on_white(pixels: np.ndarray, *, premultiplied: bool = False) -> np.ndarray:
    """Return the colours of an image on a white background, as a browser shows it.

    Args:
        pixels: HxWx4 uint8, BGR and opacity.
        premultiplied: Whether the colours are multiplied by the opacity already.

    Returns:
        HxWx3 uint8 BGR.
    """
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.min() == 255:
        return colours
    opacity = alpha.astype(np.float32) / 255
    covered = colours if premultiplied else colours * opacity
    return np.clip(np.round(covered + _WHITE * (1 - opacity)), 0, 255).astype(np.uint8)


def _turn(pixels: np.ndarray, orientation: int, back: bool = False) -> np.ndarray:
    """Turn stored pixels upright or, with `back`, upright ones as they were stored."""
    transpose, flip_rows, flip_columns = _TURNS[orientation]
    if transpose and not back:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    if transpose and back:
        pixels = pixels.swapaxes(0, 1)
    return pixels
