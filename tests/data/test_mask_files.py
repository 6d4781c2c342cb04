"""Masks' files in every form that is about, and what they mean."""

import zlib

import numpy as np
import pytest

from mcc_caffe.data.mask_files import MaskError, decode_mask_values, hand_pixels, header_size
from tests.support.images import encoded, oriented_image

HAND = np.zeros((6, 8), bool)
HAND[2:5, 3:6] = True


def two_values(low, high, kind=np.uint8):
    return np.where(HAND, high, low).astype(kind)


def with_alpha(colours, alpha):
    return np.dstack([colours, colours, colours, alpha])


FORMS = {
    "0 and 255": two_values(0, 255),
    "0 and 1": two_values(0, 1),
    "0 and 100": two_values(0, 100),
    "16 bits, 0 and 1": two_values(0, 1, np.uint16),
    "16 bits, 0 and 255": two_values(0, 255, np.uint16),
    "16 bits, 0 and 65535": two_values(0, 65535, np.uint16),
    "alpha, colours black": with_alpha(two_values(0, 0), two_values(0, 255)),
    "alpha, colours white": with_alpha(two_values(255, 255), two_values(0, 255)),
    "alpha as the colours": with_alpha(two_values(0, 255), two_values(0, 255)),
    "opaque": with_alpha(two_values(0, 255), two_values(255, 255)),
    "16 bits with opaque alpha": with_alpha(two_values(0, 1, np.uint16), HAND * 0 + 65535).astype(
        np.uint16
    ),
    "dark blue": np.dstack([two_values(0, 128), HAND * 0, HAND * 0]).astype(np.uint8),
    "soft edge": np.where(HAND, 250, 20 * (np.arange(8) % 3)).astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_mask_shows_the_same_hand(form):
    assert np.array_equal(hand_pixels(decode_mask_values(encoded(FORMS[form]))), HAND)


def test_a_cut_out_image_means_what_is_not_transparent():
    colours = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    content = encoded(with_alpha(colours, two_values(0, 255)))
    assert np.array_equal(hand_pixels(decode_mask_values(content)), HAND)


def test_one_value_is_no_hand_or_all_hand():
    assert not hand_pixels(np.zeros((3, 3), np.uint8)).any()
    assert hand_pixels(np.ones((3, 3), np.uint8)).all()


@pytest.mark.parametrize(
    "values, message",
    [
        (np.uint8([[0, 1, 2]]), "it is unclear .* more than two values, the highest 2"),
        (np.uint8([[0, 50, 100]]), "more than two values, the highest 100"),
        (np.float32([[0, np.nan, 1]]), "the mask has values from nan to nan"),
        (np.float32([[-1, 0, 1]]), "the mask has values from -1"),
    ],
)
def test_an_unclear_mask_is_an_error(values, message):
    with pytest.raises(MaskError, match=message):
        hand_pixels(values)


def test_exactly_one_half_is_no_hand():
    assert hand_pixels(np.float32([[0, 0.5, 0.6, 1]])).tolist() == [[False, False, True, True]]


def test_probabilities_may_all_stay_below_one_half():
    for values in ([0, 50, 100], [0, 2, 4]):
        assert not hand_pixels(np.uint8([values]), soft=True).any()
    assert hand_pixels(np.uint8([[0, 127, 128]]), soft=True).tolist() == [[False, False, True]]
    assert hand_pixels(np.float32([[0, 0.4, 0.6]]), soft=True).tolist() == [[False, False, True]]
    with pytest.raises(MaskError, match="unclear"):
        hand_pixels(np.uint8([[0, 2, 3]]), soft=True)  # numbers of objects


def test_colours_and_transparency_that_disagree_are_an_error():
    with pytest.raises(MaskError, match="two different hands"):
        decode_mask_values(encoded(with_alpha(two_values(0, 255), two_values(255, 0))))


@pytest.mark.parametrize("content", [b"", b"no image", encoded(FORMS["0 and 1"])[:30]])
def test_what_is_no_image_is_an_error(content):
    with pytest.raises(MaskError, match=f"the mask \\({len(content)} bytes\\) cannot be decoded"):
        decode_mask_values(content)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_turns_no_mask(kind, orientation):
    content = oriented_image(two_values(0, 255), kind, orientation)
    assert header_size(content) == HAND.shape[::-1]
    values = decode_mask_values(content, HAND.shape[::-1])
    assert np.array_equal(hand_pixels(values), HAND)


def test_the_size_is_compared_before_decoding():
    """The header says 60,000 x 60,000 pixels; nothing of them is decoded."""
    content = bytearray(encoded(FORMS["0 and 255"]))
    assert header_size(bytes(content)) == (8, 6)
    with pytest.raises(MaskError, match="the mask is 8 x 6, the image 4 x 6"):
        decode_mask_values(bytes(content), (4, 6))
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(MaskError, match="too large: 3600000000 pixels"):
        decode_mask_values(bytes(content), (8, 6))
