"""What can be wrong with the samples of a data set, and how each is found.

A fault teaches the net something false, or stops the training; a warning is what a person should look at. Pixels are
the image's; a keypoint is labelled where its v is 1.
"""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

from data_tools.sets import reason
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES, SKELETON

EDGE = 1  # pixels that a keypoint may lie outside the image: rounding, or counting from 1
MASK_TOLERANCE = 0.05  # of the keypoint box's longer side, that a keypoint may lie outside the mask
WRIST_TOLERANCE = 0.2  # of the same, for the wrist: many a mask ends before it
MASK_TOLERANCE_MIN = 3  # pixels, for both
COLLAPSED = 5  # pixels, the keypoint box's longer side
LONG_BONE = 5  # medians of the hand's bones; real and rendered hands stay below 4
SAME_PICTURE = 0.99  # correlation of two thumbnails; other pictures stay below 0.97, re-encoded ones above 0.99
THUMBNAIL = 16  # pixels
_BLOCK = 1024  # thumbnails compared at a time

FAULTS = {
    "unusable": "label, files or sizes are wrong, the sample cannot be used",
    "bad_number": "a keypoint holds no finite number, or a v other than 0 and 1",
    "outside_image": f"a labelled keypoint lies more than {EDGE} pixel outside the image",
    "collapsed": f"the keypoint box's longer side is below {COLLAPSED} pixels, or at most half of the keypoints differ in place",
    "empty_mask": "the mask has no hand, the keypoints say there is one",
    "full_mask": "the mask covers the whole image",
    "mask_elsewhere": "more than half of the keypoints lie outside the mask",
    "leak": "the same pixels stand in two splits",
}
WARNINGS = {
    "no_keypoint": "not one keypoint is labelled",
    "outside_mask": f"a keypoint is farther from the mask than {MASK_TOLERANCE:.0%} (the wrist {WRIST_TOLERANCE:.0%}) of the keypoint "
    f"box's longer side, and than {MASK_TOLERANCE_MIN} pixels: wrong, or hidden by an object",
    "long_bone": f"a finger's bone is longer than {LONG_BONE} times the median of the hand's",
    "duplicate": "the same pixels stand twice in one split",
    "near_leak": f"two splits hold nearly the same picture (correlation of {THUMBNAIL} x {THUMBNAIL} thumbnails from {SAME_PICTURE}): "
    "another size or quality of it, or the next frame of a film",
}


@dataclass(frozen=True)
class Finding:
    """One thing found: `kind` is a key of FAULTS or WARNINGS, `message` says what was found in this sample."""

    kind: str
    message: str


@dataclass(frozen=True, eq=False)
class Seen:
    """A sample that was looked at. An unusable one has its entry and finding only.

    size: width, height. mask_share: of the image, None without mask. digest: of the decoded pixels. thumbnail: (256,)
    float32, grey, of mean 0 and length 1; zero where the image is uniform.
    """

    entry: object
    findings: list
    size: tuple | None = None
    keypoints: np.ndarray | None = None
    mask_share: float | None = None
    digest: bytes | None = None
    thumbnail: np.ndarray | None = None


def look(entry) -> Seen:
    """Loads one entry's sample and looks for what is wrong with it alone. Never raises for what it finds."""
    try:
        sample = entry.sample()
        image, mask = sample.image(), sample.mask()
    except Exception as error:  # whatever a reader stumbles over: one sample must not end the check
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return Seen(entry, [Finding("unusable", kind + reason(error, entry.where))])
    height, width = image.shape[:2]
    if mask is not None and mask.shape != (height, width):
        return Seen(
            entry,
            [
                Finding(
                    "unusable",
                    f"the mask is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}",
                )
            ],
        )
    return Seen(
        entry=entry,
        findings=[Finding(*found) for found in wrong_with(width, height, mask, sample.keypoints)],
        size=(width, height),
        keypoints=sample.keypoints,
        mask_share=None if mask is None else cv2.countNonZero(mask) / mask.size,
        digest=hashlib.blake2b(
            np.ascontiguousarray(image), digest_size=16, salt=b"%dx%d" % (width, height)
        ).digest(),
        thumbnail=thumbnail(image),
    )


def wrong_with(width: int, height: int, mask: np.ndarray | None, keypoints: np.ndarray):
    """Yields (kind, message) of what is wrong with a width x height picture, its mask (H, W) of {0, 1} and keypoints (21, 3)."""
    broken = ~np.isfinite(keypoints).all(axis=1) | ~np.isin(keypoints[:, 2], (0, 1))
    if broken.any():
        yield (
            "bad_number",
            ", ".join(
                f"{NAMES[k]} is {tuple(keypoints[k].tolist())}" for k in np.flatnonzero(broken)
            ),
        )
        return
    xy, labelled = keypoints[:, :2], keypoints[:, 2] == 1
    outside = labelled & ((xy < -EDGE) | (xy > (width - 1 + EDGE, height - 1 + EDGE))).any(axis=1)
    if outside.any():
        yield "outside_image", f"{_places(outside, xy)}; the image is {width} x {height}"
    if mask is not None and mask.all():
        yield "full_mask", "all of its pixels are hand"
    if not labelled.any():
        yield "no_keypoint", "all 21 are missing"
        return
    box = float(np.ptp(xy[labelled], axis=0).max())
    places = len(np.unique(np.rint(xy[labelled]), axis=0))
    if labelled.sum() > 2 and (box < COLLAPSED or 2 * places <= labelled.sum()):
        yield (
            "collapsed",
            f"{labelled.sum()} keypoints in {places} places, {box:.0f} pixels apart at most",
        )
        return
    yield from _long_bones(xy, labelled)
    if mask is not None and not mask.any():
        yield "empty_mask", f"{labelled.sum()} keypoints are labelled"
    elif mask is not None:
        yield from _off_the_mask(mask, xy, labelled & ~outside, box)


def _long_bones(xy: np.ndarray, labelled: np.ndarray):
    """The palm's bones are left out: they are far longer than the fingers' where those point at the camera."""
    bones = {
        f"{NAMES[start]} to {NAMES[end]}": float(np.hypot(*(xy[start] - xy[end])))
        for start, end, _ in SKELETON
        if start > 0 and labelled[start] and labelled[end]
    }
    median = float(np.median(list(bones.values()))) if bones else 0.0
    long = [
        f"{name} is {length:.0f} pixels long"
        for name, length in bones.items()
        if length > LONG_BONE * max(median, 1)
    ]
    if long:
        yield "long_bone", f"{', '.join(long)}; the median is {median:.0f}"


def _off_the_mask(mask: np.ndarray, xy: np.ndarray, inside: np.ndarray, box: float):
    """`inside`: (21,) the labelled keypoints that lie in the image. `box`: the keypoint box's longer side."""
    tolerance = np.maximum(
        MASK_TOLERANCE_MIN, box * np.where(np.arange(len(xy)) == 0, WRIST_TOLERANCE, MASK_TOLERANCE)
    )
    x, y = np.rint(xy.clip(0, (mask.shape[1] - 1, mask.shape[0] - 1))).astype(int).T
    if mask[y, x][inside].all():
        return  # the common case, and the distances are slow
    distances = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)[y, x]
    off = inside & (distances > tolerance)
    if off.any():
        kind = "mask_elsewhere" if 2 * off.sum() > inside.sum() else "outside_mask"
        yield kind, f"{_places(off, xy)}; up to {distances[off].max():.0f} pixels from the mask"


def _places(chosen: np.ndarray, xy: np.ndarray, most: int = 4) -> str:
    """`index_4 (12, 30), ...` of the chosen keypoints."""
    named = [f"{NAMES[k]} ({xy[k, 0]:.0f}, {xy[k, 1]:.0f})" for k in np.flatnonzero(chosen)]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """See Seen."""
    small = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
        (THUMBNAIL, THUMBNAIL),
        interpolation=cv2.INTER_AREA,
    )
    values = small.astype(np.float32).ravel() - small.mean(dtype=np.float32)
    length = np.linalg.norm(values)
    return (
        values / length if length > THUMBNAIL else np.zeros_like(values)
    )  # less than 1 grey level of contrast


def compare(splits: dict) -> None:
    """Adds to the findings of {split: [Seen]}: pictures that stand twice, in one split or in two, exactly or nearly."""
    first = {}
    for split, seen in splits.items():
        for one in seen:
            if one.digest is None:
                continue
            original_split, original = first.setdefault(one.digest, (split, one))
            if original is not one:
                labels = (
                    "the same" if np.array_equal(original.keypoints, one.keypoints) else "other"
                )
                kind = "duplicate" if original_split == split else "leak"
                one.findings.append(
                    Finding(
                        kind, f"the same picture as {original.entry.where}, with {labels} keypoints"
                    )
                )
    names = list(splits)
    for place, name in enumerate(names):
        for earlier in names[:place]:
            _compare_thumbnails(splits[earlier], splits[name])


def _compare_thumbnails(these: list, those: list) -> None:
    """Adds near_leak to those of `those` that look like one of `these` and are no exact copy of it."""
    these, those = ([one for one in seen if one.digest is not None] for seen in (these, those))
    if not these or not those:
        return
    digests, thumbnails = {one.digest for one in these}, np.stack([one.thumbnail for one in these])
    for start in range(0, len(those), _BLOCK):
        block = those[start : start + _BLOCK]
        alike = np.stack([one.thumbnail for one in block]) @ thumbnails.T
        for one, row in zip(block, alike):
            best = int(row.argmax())
            if row[best] >= SAME_PICTURE and one.digest not in digests:
                one.findings.append(
                    Finding(
                        "near_leak",
                        f"looks like {these[best].entry.where} (correlation {row[best]:.3f})",
                    )
                )
