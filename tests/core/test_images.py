"""Image files of every kind come out as one would see them."""

import io
import os
import resource
import struct
import zlib

import cv2
import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.images import ImageError, ImageHeader, decode_image, read_header
from mcc_caffe.data.mask_files import MaskError, decode_mask_values, hand_pixels, header_size
from tests.support.commands import run_code
from tests.support.images import ORIENTATION, encoded, orientation_tags, oriented_image

COLOURS = np.random.default_rng(0).integers(0, 255, (24, 16, 3), dtype=np.uint8)
COLOURS = cv2.resize(COLOURS[:3, :2], (16, 24), interpolation=cv2.INTER_NEAREST)  # six fields
PNG_START = b"\x89PNG\r\n\x1a\n"


def saved(image, kind, **options) -> bytes:
    """Encode a Pillow image."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def tiff(samples, **options) -> bytes:
    """Encode a TIFF of these samples, as tifffile's options say."""
    content = io.BytesIO()
    tifffile.imwrite(content, samples, **options)
    return content.getvalue()


def png_chunk(body) -> bytes:
    """Return the chunk of a PNG with its length and check sum; the body begins with its name."""
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_of_every_format_is_made_upright(kind, orientation):
    if kind == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("this Pillow knows no AVIF")
    content = oriented_image(COLOURS, kind, orientation)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content)))
    expected = np.array(upright.convert("RGB"))[..., ::-1]
    decoded = decode_image(content)
    assert decoded.shape == expected.shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - expected).mean() < 3
    stored = decode_image(content, upright=False)
    assert stored.shape == (24, 16, 3)
    assert np.abs(stored.astype(int) - COLOURS[..., ::-1]).mean() < 20
    turned_by_opencv = orientation if kind == "TIFF" else 1
    assert read_header(content) == ImageHeader(
        kind, "RGB", 16, 24, orientation, decoded_orientation=turned_by_opencv
    )


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_exif_does_not_know_turns_nothing(orientation):
    content = oriented_image(COLOURS, "PNG", orientation)
    assert np.array_equal(decode_image(content), COLOURS[..., ::-1])


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("is_grey_with_alpha", [False, True])
def test_the_orientation_of_a_tiff_may_stand_in_its_xmp_alone(is_grey_with_alpha, orientation):
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'.encode()
    image = PIL.Image.fromarray(COLOURS).convert("LA" if is_grey_with_alpha else "RGB")
    content = saved(image, "TIFF", tiffinfo={700: xmp})
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content)))
    assert np.array_equal(decode_image(content), np.array(upright.convert("RGB"))[..., ::-1])
    stored = np.array(image.convert("RGB"))[..., ::-1]
    assert np.array_equal(decode_image(content, upright=False), stored)


def test_a_tiff_that_pillow_does_not_know_is_turned():
    content = io.BytesIO()
    tags = [(ORIENTATION, "H", 1, 6, True)]
    tifffile.imwrite(content, COLOURS / np.float32(255), photometric="rgb", extratags=tags)
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(content)
    assert np.array_equal(decode_image(content.getvalue()), np.rot90(COLOURS, -1)[..., ::-1])
    assert np.array_equal(decode_image(content.getvalue(), upright=False), COLOURS[..., ::-1])
    assert read_header(content.getvalue())[:5] == ("TIFF", "", 16, 24, 6)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "GIF"])
def test_opencv_writes_nothing_about_a_damaged_image(kind, capfd):
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    content = saved(PIL.Image.fromarray(np.tile(COLOURS, (6, 6, 1))), kind)
    try:
        with pytest.raises(ImageError, match="not a readable image"):
            decode_image(content[: len(content) // 2])
    finally:
        cv2.utils.logging.setLogLevel(level)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_bits_that_are_used_of_16_count(channels, suffix, bits):
    ramp = np.linspace(0, 2**bits - 1, 300).reshape(15, 20).astype(np.uint16)
    pixels = np.dstack([ramp] * channels)
    if channels == 4:
        pixels[..., 3] = 65535
    content = cv2.imencode(suffix, pixels)[1].tobytes()
    expected = (ramp >> (bits - 8)).astype(np.uint8)
    assert (decode_image(content) == expected[..., None]).all()


def test_hidden_colours_of_transparent_images_do_not_count():
    alpha = np.zeros((24, 16, 1), np.uint8)
    alpha[12:] = 255
    alpha[10] = 128
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        decoded = []
        for hidden in (0, 90, 255):
            colours = np.where(alpha > 0, COLOURS, hidden).astype(np.uint8)
            image = PIL.Image.fromarray(np.dstack([colours, alpha]), "RGBA")
            decoded.append(decode_image(saved(image, kind, **options)))
        assert (decoded[0] == decoded[1]).all() and (decoded[0] == decoded[2]).all(), kind
        assert (decoded[0][:10] == 255).all()
        assert (decoded[0][12:] == COLOURS[12:, :, ::-1]).all()
        half = np.abs(decoded[0][10].astype(int) - (COLOURS[10, :, ::-1] * 0.5 + 127.5))
        assert half.max() <= 2, kind


def png_of_grey(bits, samples, transparent):
    """A grey PNG of `bits` a sample, one row, whose samples of one value are transparent."""
    row = "".join(f"{sample:0{bits}b}" for sample in samples)
    row = int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8), "big")
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", len(samples), 1, bits, 0, 0, 0, 0),
        b"tRNS" + struct.pack(">H", transparent),
        b"IDAT" + zlib.compress(b"\0" + row),
        b"IEND",
    )
    return PNG_START + b"".join(map(png_chunk, chunks))


@pytest.mark.parametrize(
    "bits, samples, transparent, expected",
    [
        (1, [0, 1, 0], 0, [255, 255, 255]),
        (1, [0, 1, 0], 1, [0, 255, 0]),
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [0, 5, 6, 15], 5, [0, 255, 102, 255]),
        (8, [0, 76, 77], 76, [0, 255, 77]),
        (16, [0, 19456, 19457, 65535], 19456, [0, 255, 76, 255]),
    ],
)
def test_transparent_parts_of_a_grey_png_are_white(bits, samples, transparent, expected):
    decoded = decode_image(png_of_grey(bits, samples, transparent))
    assert decoded[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("is_grey, bits", [(False, 8), (False, 16), (True, 8)])
@pytest.mark.parametrize("is_multiplied", [False, True])
def test_transparent_parts_of_a_tiff_are_white(is_multiplied, is_grey, bits, orientation):
    """Opacities of 0, 0.2 and 1 over colours of 100, stored as such or multiplied by it."""
    alpha = np.array([[0, 51, 255], [255, 255, 0]])
    colour = np.full(alpha.shape, 100) * (alpha / 255 if is_multiplied else 1)
    channels = [colour, alpha] if is_grey else [colour, colour, colour, alpha]
    kind = np.uint8 if bits == 8 else np.uint16
    samples = (np.dstack(channels) * (1 if bits == 8 else 257)).round().astype(kind)
    content = tiff(
        samples,
        photometric="minisblack" if is_grey else "rgb",
        planarconfig="contig",
        extrasamples=["assocalpha" if is_multiplied else "unassalpha"],
        extratags=[(ORIENTATION, "H", 1, orientation, True)],
    )
    expected = np.array([[255, 224, 100], [100, 100, 255]])  # 0.2 x 100 + 0.8 x 255
    upright = np.rot90(expected, -1) if orientation == 6 else expected
    assert np.abs(decode_image(content).astype(int) - upright[..., None]).max() <= 1
    stored = decode_image(content, upright=False)
    assert np.abs(stored.astype(int) - expected[..., None]).max() <= 1


@pytest.mark.parametrize("planar_configuration", ["contig", "separate"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_colours_of_a_tiff_may_lie_in_planes(kind, planar_configuration):
    """OpenCV would mix planes of more than 8 bits into an image of other colours."""
    samples = (COLOURS / 255 * (np.iinfo(kind).max if kind != np.float32 else 1)).astype(kind)
    is_in_planes = planar_configuration == "separate"
    content = tiff(
        np.moveaxis(samples, 2, 0) if is_in_planes else samples,
        photometric="rgb",
        planarconfig=planar_configuration,
    )
    if is_in_planes and kind != np.uint8:
        with pytest.raises(ImageError, match="colours lie in planes .*: store them pixel by pixel"):
            decode_image(content)
    else:
        assert np.array_equal(decode_image(content), COLOURS[..., ::-1])


def test_the_single_plane_of_a_grey_tiff_is_no_hindrance():
    grey = PIL.Image.fromarray(np.array([[0, 65535]], np.uint16))
    content = saved(grey, "TIFF", tiffinfo={284: 2})  # PlanarConfiguration: in planes
    assert decode_image(content)[..., 0].tolist() == [[0, 255]]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_white_may_be_zero_in_a_tiff(kind, photometric):
    white = 1 if kind == np.float32 else np.iinfo(kind).max
    grey = np.array([[0, 51, 204, 255]])
    samples = (grey if photometric == "minisblack" else 255 - grey) / 255 * white
    content = tiff(samples.astype(kind), photometric=photometric)
    assert decode_image(content)[..., 0].tolist() == grey.tolist()


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_where_white_is_zero_samples_may_have_fewer_bits_than_their_type(bits):
    grey = np.array([[0, 51, 204, 255]])
    samples = ((255 - grey) * 2 ** (bits - 8)).astype(np.uint16)
    content = tiff(samples, photometric="miniswhite")
    assert decode_image(content)[..., 0].tolist() == grey.tolist()
    values = decode_mask_values(content)
    assert hand_pixels(values).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_where_white_is_zero_the_error_names_the_values_that_are_stored(kind):
    content = tiff(np.array([[0, 127]], kind), photometric="miniswhite")
    with pytest.raises(ImageError, match=f"values are {np.dtype(kind)} from 0 to 127"):
        decode_image(content)


@pytest.mark.parametrize(
    "kind, planar_configuration",
    [(np.uint8, "contig"), (np.uint8, "separate"), (np.uint16, "contig")],
)
def test_a_channel_of_a_tiff_that_is_no_opacity_hides_nothing(kind, planar_configuration):
    other = np.arange(24 * 16).reshape(24, 16, 1) % 256
    samples = np.dstack([COLOURS, other]).astype(kind) * (257 if kind == np.uint16 else 1)
    content = tiff(
        np.moveaxis(samples, 2, 0) if planar_configuration == "separate" else samples,
        photometric="rgb",
        planarconfig=planar_configuration,
        extrasamples=["unspecified"],
    )
    assert np.array_equal(decode_image(content), COLOURS[..., ::-1])


@pytest.mark.parametrize("opacity", ["assocalpha", "unassalpha"])
def test_an_opacity_that_no_library_decodes_is_an_error(opacity):
    """The pixels that it hides would be seen."""
    samples = np.full((2, 3, 2), 9000, np.uint16)
    content = tiff(samples, photometric="minisblack", extrasamples=[opacity])
    with pytest.raises(ImageError, match="opacity of its grey pixels cannot be .*: store it as RG"):
        decode_image(content)


@pytest.mark.parametrize("white, kind", [(100, np.uint8), (1, np.uint8), (1000, ">u2")])
def test_a_pnm_has_any_number_for_white(white, kind):
    """The photographs of some cameras and of scientific programs."""
    numbers = np.array([0, white // 2, white], kind)
    expected = [0, round(white // 2 / white * 255), 255]
    content = b"P5\n# a comment\n3 1\n%d\n" % white + numbers.tobytes()
    assert decode_image(content)[0, :, 0].tolist() == expected
    content = b"P6 1 1 %d\n" % white + numbers.tobytes()
    assert decode_image(content)[0, 0].tolist() == expected[::-1]


def test_an_opacity_of_16_bits_is_no_brighter_where_the_colours_use_fewer():
    """A half opaque black pixel, beside a white one of 12 bits."""
    pixels = np.array([[[0, 0, 0, 32768], [4095, 4095, 4095, 65535]]], np.uint16)
    assert decode_image(encoded(pixels))[..., 0].tolist() == [[127, 255]]


def test_a_pnm_of_16_bits_is_scaled_by_the_bits_that_it_uses():
    content = b"P5 2 1 65535\n" + np.array([0, 4095], ">u2").tobytes()  # of 12 bits
    assert decode_image(content)[0, :, 0].tolist() == [0, 255]


def test_palettes_grey_one_bit_and_cmyk():
    image = PIL.Image.new("RGB", (6, 4), (255, 204, 0))
    for mode in ("P", "RGB", "CMYK"):
        for kind in ("TIFF",) if mode == "CMYK" else ("PNG", "TIFF", "BMP"):
            assert decode_image(saved(image.convert(mode), kind))[0, 0].tolist() == [0, 204, 255]
    red = image.convert("P")
    content = saved(red, "PNG", transparency=red.getpixel((0, 0)))
    assert (decode_image(content) == 255).all()
    for kind in ("PNG", "TIFF", "BMP"):
        assert (decode_image(saved(PIL.Image.new("1", (6, 4), 1), kind)) == 255).all()


def bmp_of_32_bits(header_size, compression, fourth_byte, masks):
    """A BMP of 4 x 2 pixels (B 10, G 20, R 200); the masks follow 40 bytes of header."""
    pixels = bytes((10, 20, 200, fourth_byte)) * 8
    header = struct.pack(
        "<IiiHHIIiiII", header_size, 4, 2, 1, 32, compression, len(pixels), 0, 0, 0, 0
    )
    header += struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(header_size, b"\0")
    start = 14 + len(header)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header + pixels


COLOUR_MASKS, ALPHA_MASK = (0xFF0000, 0xFF00, 0xFF), 0xFF000000


@pytest.mark.parametrize(
    "header_size, compression, masks, expected",
    [
        (40, 0, (), (10, 20, 200)),
        (40, 3, COLOUR_MASKS, (10, 20, 200)),
        (52, 3, COLOUR_MASKS, (10, 20, 200)),
        (124, 3, (*COLOUR_MASKS, 0), (10, 20, 200)),
        (124, 3, (*COLOUR_MASKS, ALPHA_MASK), (255, 255, 255)),
    ],
)
def test_the_unused_byte_of_a_bmp_is_no_opacity(header_size, compression, masks, expected):
    content = bmp_of_32_bits(header_size, compression, 0, masks)
    assert (decode_image(content) == expected).all()


@pytest.mark.parametrize("kind", ["GIF", "PPM", "JPEG2000", "AVIF"])
def test_other_formats(kind):
    if not PIL.features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow knows no AVIF")
    content = saved(PIL.Image.new("RGB", (16, 24), (255, 204, 0)), kind)
    assert np.abs(decode_image(content).astype(int) - (0, 204, 255)).max() < 8


@pytest.mark.parametrize("low, high", [(0, 7.5), (-1, 1), (0, np.nan)])
def test_numbers_that_are_no_brightness_are_refused(low, high):
    content = cv2.imencode(".tiff", np.array([[low, high]], np.float32))[1].tobytes()
    with pytest.raises(ImageError, match="its values are float32 from .* store it with 8 or 16"):
        decode_image(content)
    unit = cv2.imencode(".tiff", np.array([[0, 0.5, 1]], np.float32))[1].tobytes()
    assert decode_image(unit)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["eXIf", "XMP"])
@pytest.mark.parametrize("is_behind", [False, True])
def test_the_header_of_a_png_is_read_without_its_pixels(is_behind, kind):
    """Where they are damaged, whoever decodes them fails. Chunks behind them count, too."""
    content = saved(PIL.Image.fromarray(COLOURS), "PNG")
    start = content.index(b"IDAT") - 4
    head, pixels, end = content[:start], bytearray(content[start:-12]), content[-12:]
    if kind == "XMP":
        body = b'iTXtXML:com.adobe.xmp\0\0\0\0\0<rdf:Description tiff:Orientation="6"/>'
    else:
        body = b"eXIf" + orientation_tags(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = png_chunk(body)
    parts = (head, pixels, chunk, end) if is_behind else (head, chunk, pixels, end)
    upright = np.rot90(COLOURS, -1)[..., ::-1]
    assert np.array_equal(decode_image(b"".join(parts)), upright)
    pixels[8:-4] = bytes(len(pixels) - 12)
    expected = ImageHeader("PNG", "RGB", 16, 24, 6)
    assert read_header(b"".join(parts)) == expected
    assert read_header(b"".join((head, chunk, pixels))[:-20]) == expected  # it is cut
    with pytest.raises(ImageError, match="not a readable image"):
        decode_image(b"".join((head, chunk, pixels))[:-20])


def huge_png(side):
    """A valid grey PNG of side x side pixels in a few bytes."""
    row = zlib.compressobj(9)
    data = b"".join(row.compress(bytes(side + 1)) for _ in range(side)) + row.flush()
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return PNG_START + b"".join(map(png_chunk, (head, b"IDAT" + data, b"IEND")))


def test_the_number_of_pixels_is_bounded(monkeypatch):
    content = huge_png(2000)
    assert decode_image(content).shape == (2000, 2000, 3)
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "3.9")
    with pytest.raises(
        ImageError,
        match="4000000 pixels are more than 3.9 million: make it smaller, "
        "or set MCC_CAFFE_MAX_MEGAPIXELS",
    ):
        decode_image(content)
    for wrong in ("word", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", wrong)
        with pytest.raises(UserError, match=f"MCC_CAFFE_MAX_MEGAPIXELS is '{wrong}': give a"):
            decode_image(content)


def png_that_claims(width, height):
    """A small PNG whose header says that it is larger."""
    content = huge_png(8)
    at = content.index(b"IHDR")
    body = b"IHDR" + struct.pack(">II", width, height) + content[at + 12 : at + 17]
    return content[: at - 4] + png_chunk(body) + content[at + 21 :]


def test_only_our_bound_decides_about_large_images(monkeypatch, recwarn):
    """Pillow has one of its own, and decodes a PNG to find what may follow its pixels."""
    pillows_bound = PIL.Image.MAX_IMAGE_PIXELS
    content = png_that_claims(30_000, 30_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="900000000 pixels are more than 200 million: make"):
        decode_image(content)
    with pytest.raises(UserError, match="too large: 900000000 pixels are more than 200 mill"):
        header_size(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert header_size(png_that_claims(16320, 12240)) == (16320, 12240)
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "400")
    assert header_size(png_that_claims(19000, 19000)) == (19000, 19000)
    assert pillows_bound == PIL.Image.MAX_IMAGE_PIXELS and not recwarn
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)  # instead of an image of gigabytes
    assert decode_image(huge_png(200)).shape == (200, 200, 3)
    assert read_header(huge_png(200)).width == 200 and PIL.Image.MAX_IMAGE_PIXELS == 5


def test_a_chunk_that_claims_to_be_large_takes_no_memory():
    """OpenCV would take 4 GiB for these few bytes."""
    content = bytearray(saved(PIL.Image.fromarray(COLOURS), "PNG"))
    at = content.index(b"IDAT")
    content[at - 4 : at] = b"\x7f\xff\xff\xff"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="not a readable image"):
        decode_image(bytes(content))
    with pytest.raises(MaskError, match="cannot be decoded"):
        decode_mask_values(bytes(content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


DECODE = """
from mcc_caffe.core.start import prepare_command
prepare_command()
from mcc_caffe.core.images import ImageError, decode_image
try:
    print(decode_image(open("a.jpg", "rb").read()).shape)
except ImageError:
    print("refused")
"""


@pytest.mark.parametrize("ending", [".hdr", ".ras", ".jpg"])
def test_formats_whose_header_only_opencv_reads_are_bounded_too(ending, tmp_path):
    image = np.full((1500, 1000, 3), 0.5, np.float32 if ending == ".hdr" else np.uint8)
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(ending, image)[1].tobytes())
    environment = dict(os.environ)
    environment.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
    # The last has more pixels than OpenCV's 64 bits.
    for bound, said in (
        ("1.4", "refused"),
        ("1.6", "(1500, 1000, 3)"),
        ("1e14", "(1500, 1000, 3)"),
    ):
        limited = {**environment, "MCC_CAFFE_MAX_MEGAPIXELS": bound}
        done = run_code(DECODE, cwd=tmp_path, env=limited)
        assert done.stdout.strip() == said, done.stderr


DECODE_IN_PYTHON = """
from mcc_caffe.core.images import TooManyPixelsError, decode_image
try:
    decode_image(open("a.jpg", "rb").read())
except TooManyPixelsError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", [".png", ".jpg", ".hdr"])
def test_an_image_above_opencvs_own_limit_is_not_called_damaged(ending, tmp_path):
    image = np.full((40, 30, 3), 0.5, np.float32 if ending == ".hdr" else np.uint8)
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(ending, image)[1].tobytes())
    limited = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "1000"}
    done = run_code(DECODE_IN_PYTHON, cwd=tmp_path, env=limited)
    assert done.stdout == (
        "it has more pixels than OpenCV may decode: make it smaller, or set "
        "MCC_CAFFE_MAX_MEGAPIXELS (in Python OPENCV_IO_MAX_IMAGE_PIXELS, before OpenCV is "
        "imported)\n"
    )


def test_a_program_that_imports_the_package_keeps_opencvs_limit():
    code = "import os, mcc_caffe; mcc_caffe.HandPredictor; print('OPENCV_IO_MAX_IMAGE_PIXELS' in "
    environment = dict(os.environ)
    environment.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
    done = run_code(code + "os.environ)", env=environment)
    assert done.stdout.strip() == "False", done.stderr
