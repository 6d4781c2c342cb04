"""Finds the faults of a data set's samples.

A fault teaches the net something false, or stops the training; a warning is what a person should
look at. FAULTS and WARNINGS list all kinds. Pixels are the image's; a keypoint is labelled where
its v is 1.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import sample_orientation
from data_tools.sets import find_divided_groups, strip_location
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES, SKELETON
from mcc_caffe.data.samples import find_broken_keypoints

EDGE = 1  # pixels that a keypoint may lie outside the source image: rounding, or counting from 1
MASK_TOLERANCE = 0.05  # of the keypoint box's longer side, that a keypoint may lie outside the mask
WRIST_TOLERANCE = 0.2  # of the same, for the wrist: many a mask ends before it
MASK_TOLERANCE_MIN = 3  # pixels, for both
COLLAPSED = 5  # pixels, the keypoint box's longer side
LONG_BONE = 5  # medians of the hand's bones; real and rendered hands stay below 4
# Correlation of two thumbnails. Different images stay below 0.97, re-encoded ones above 0.99.
SAME_IMAGE = 0.99
THUMBNAIL = 16  # pixels
_BLOCK = 1024  # thumbnails compared at a time
_NAMED_KEYPOINTS = 4  # that a message names, before it only counts them

FAULTS = {
    "unusable": "label, files or sizes are wrong, the sample cannot be used",
    "bad_number": "a keypoint holds no finite number, or a v other than 0 and 1",
    "outside_image": f"a labelled keypoint lies more than {EDGE} pixel outside the source image",
    "collapsed": f"the keypoint box's longer side is below {COLLAPSED} pixels, "
    "or at most half of the keypoints differ in place",
    "empty_mask": "the mask has no hand, the keypoints say there is one",
    "full_mask": "the mask covers the whole image",
    "mask_elsewhere": "more than half of the keypoints lie outside the mask",
    "leak": "the same pixels stand in two splits",
}
WARNINGS = {
    "exif_orientation": "the image's EXIF orientation says that it is to be turned; the labels "
    "are taken to refer to the pixels as stored: --orientation upright says otherwise",
    "no_keypoint": "not one keypoint is labelled",
    "outside_mask": f"a keypoint is farther from the mask than {MASK_TOLERANCE:.0%} "
    f"(the wrist {WRIST_TOLERANCE:.0%}) of the keypoint box's longer side, "
    f"and than {MASK_TOLERANCE_MIN} pixels: wrong, or hidden by an object",
    "long_bone": f"a finger's bone is longer than {LONG_BONE} times the median of the hand's",
    "duplicate": "the same pixels stand twice in one split",
    "near_leak": "two splits hold nearly the same image (correlation of "
    f"{THUMBNAIL} x {THUMBNAIL} thumbnails from {SAME_IMAGE}): "
    "another size or quality of it, or the next frame of a film",
    "divided_group": "two splits hold hands of one image, or images of one hand or film: "
    "the set does better in validation than on new images",
}


class Finding(NamedTuple):
    """One fault or warning of one sample.

    Attributes:
        kind: A key of FAULTS or WARNINGS.
        message: What is wrong with this sample.
    """

    kind: str
    message: str

    @property
    def is_fault(self) -> bool:
        """Whether the kind is one of FAULTS."""
        return self.kind in FAULTS


class ImageFacts(NamedTuple):
    """What the check keeps of a usable sample.

    Attributes:
        size: Width, height in pixels.
        keypoints: (21, 3) x, y, v, as the label has them, also outside the source image; x and y in
            image pixels.
        missing: (21,) bool, which keypoints a training lacks: those without a label and those
            outside the source image.
        mask_share: Share of the image that the mask covers, None without a mask.
        digest: Hash of the decoded pixels.
        thumbnail: (256,) float32, grey, of mean 0 and length 1; zero where the image is uniform.
    """

    size: tuple[int, int]
    keypoints: np.ndarray
    missing: np.ndarray
    mask_share: float | None
    digest: bytes
    thumbnail: np.ndarray


@dataclass(frozen=True, eq=False)
class CheckedSample:
    """A sample after its check.

    Attributes:
        entry: Where the sample comes from.
        findings: All faults and warnings; `find_duplicates` adds to them.
        facts: What the check needs to know of the image; None where the sample is unusable.
    """

    entry: Entry
    findings: list[Finding]
    facts: ImageFacts | None = None


def check_sample(entry: Entry) -> CheckedSample:
    """Load one entry's sample and find what is wrong with it alone.

    Whatever the entry raises becomes a finding, so that one sample cannot end the check.
    """
    try:
        sample = entry.sample()
        image, mask = sample.image(), sample.mask()
        height, width = image.shape[:2]
        if mask is not None:
            sample.check_mask_size((mask.shape[1], mask.shape[0]), (width, height))
    except Exception as error:  # whatever a reader stumbles over
        prefix = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        message = prefix + strip_location(error, entry.location)
        return CheckedSample(entry, [Finding("unusable", message)])
    digest = hashlib.blake2b(
        np.ascontiguousarray(image).data, digest_size=16, salt=b"%dx%d" % (width, height)
    )
    keypoints = sample.keypoints.copy()
    for index, x, y in sample.outside:  # which the reader has made missing
        keypoints[index] = x, y, 1
    facts = ImageFacts(
        size=(width, height),
        keypoints=keypoints,
        missing=sample.keypoints[:, 2] == 0,
        mask_share=None if mask is None else cv2.countNonZero(mask) / mask.size,
        digest=digest.digest(),
        thumbnail=make_thumbnail(image),
    )
    findings = list(find_faults(width, height, mask, keypoints, sample.source_box))
    orientation = sample_orientation(sample)
    if orientation > 1:
        findings.append(Finding("exif_orientation", f"it is {orientation} (1 is upright)"))
    return CheckedSample(entry, findings, facts)


def find_faults(
    width: int,
    height: int,
    mask: np.ndarray | None,
    keypoints: np.ndarray,
    source_box: tuple[int, int, int, int] | None = None,
) -> Iterator[Finding]:
    """Find what is wrong with one labelled image.

    Args:
        width: The image's width in pixels.
        height: The image's height in pixels.
        mask: (H, W) of {0, 1}, or None.
        keypoints: (21, 3) x, y, v.
        source_box: Left, top, right, bottom of the source image, of which the image is a crop, in
            image pixels; None where the image is no crop.

    Yields:
        One finding for each kind that applies.
    """
    broken = find_broken_keypoints(keypoints)
    if broken.any():
        values = (f"{NAMES[k]} is {tuple(keypoints[k].tolist())}" for k in np.flatnonzero(broken))
        yield Finding("bad_number", ", ".join(values))
        return
    xy, labelled = keypoints[:, :2], keypoints[:, 2] == 1
    left, top, right, bottom = source_box or (0, 0, width, height)
    outside = labelled & ~_lie_inside(xy - (left, top), right - left, bottom - top)
    if outside.any():
        yield Finding(
            "outside_image",
            f"{_name_keypoints(outside, xy - (left, top))}; "
            f"the source image is {right - left} x {bottom - top}",
        )
    if mask is not None and mask.all():
        yield Finding("full_mask", "all of its pixels are hand")
    if not labelled.any():
        yield Finding("no_keypoint", "all 21 are missing")
        return
    box_side = float(np.ptp(xy[labelled], axis=0).max())
    distinct = len(np.unique(np.rint(xy[labelled]), axis=0))
    if labelled.sum() > 2 and (box_side < COLLAPSED or 2 * distinct <= labelled.sum()):
        yield Finding(
            "collapsed",
            f"{labelled.sum()} keypoints in {distinct} places, {box_side:.0f} pixels apart at most",
        )
        return
    yield from _find_long_bones(xy, labelled)
    if mask is not None and not mask.any():
        yield Finding("empty_mask", f"{labelled.sum()} keypoints are labelled")
    elif mask is not None:
        inside = labelled & _lie_inside(xy, width, height)
        yield from _find_keypoints_off_mask(mask, xy, inside, box_side)


def _lie_inside(xy: np.ndarray, width: int, height: int) -> np.ndarray:
    """Tell which (N, 2) points lie in an image, or at most EDGE pixels outside.

    `geometry.lie_inside` admits none outside. Here a label that rounds, or counts from 1, is right.
    """
    inside = (xy >= -EDGE) & (xy <= (width - 1 + EDGE, height - 1 + EDGE))
    return np.asarray(inside.all(axis=1))


def _find_long_bones(xy: np.ndarray, labelled: np.ndarray) -> Iterator[Finding]:
    """Compare the fingers' bones with their median.

    The palm's bones are left out: they are far longer where the fingers point at the camera.
    """
    lengths = {
        f"{NAMES[start]} to {NAMES[end]}": float(np.hypot(*(xy[start] - xy[end])))
        for start, end, _ in SKELETON
        if start > 0 and labelled[start] and labelled[end]
    }
    median = float(np.median(list(lengths.values()))) if lengths else 0.0
    too_long = [
        f"{name} is {length:.0f} pixels long"
        for name, length in lengths.items()
        if length > LONG_BONE * max(median, 1)
    ]
    if too_long:
        yield Finding("long_bone", f"{', '.join(too_long)}; the median is {median:.0f}")


def _find_keypoints_off_mask(
    mask: np.ndarray, xy: np.ndarray, inside: np.ndarray, box_side: float
) -> Iterator[Finding]:
    """Compare keypoints with a mask.

    Args:
        mask: (H, W) of {0, 1}.
        xy: (21, 2) pixels.
        inside: (21,) bool, the labelled keypoints that lie in the image.
        box_side: Longer side of the keypoints' box, pixels.
    """
    is_wrist = np.arange(len(xy)) == NAMES.index("wrist")
    tolerance = np.maximum(
        MASK_TOLERANCE_MIN, box_side * np.where(is_wrist, WRIST_TOLERANCE, MASK_TOLERANCE)
    )
    x, y = np.rint(xy.clip(0, (mask.shape[1] - 1, mask.shape[0] - 1))).astype(int).T
    if mask[y, x][inside].all():
        return  # the common case, and the distances are slow
    distances = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5)[y, x]
    off_mask = inside & (distances > tolerance)
    if off_mask.any():
        kind = "mask_elsewhere" if 2 * off_mask.sum() > inside.sum() else "outside_mask"
        yield Finding(
            kind,
            f"{_name_keypoints(off_mask, xy)}; "
            f"up to {distances[off_mask].max():.0f} pixels from the mask",
        )


def _name_keypoints(chosen: np.ndarray, xy: np.ndarray) -> str:
    """Return the chosen keypoints with their coordinates: `index_4 (12, 30), ...`."""
    texts = [f"{NAMES[k]} ({xy[k, 0]:.0f}, {xy[k, 1]:.0f})" for k in np.flatnonzero(chosen)]
    hidden = len(texts) - _NAMED_KEYPOINTS
    return ", ".join(texts[:_NAMED_KEYPOINTS]) + (f" and {hidden} more" if hidden > 0 else "")


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the `thumbnail` of ImageFacts for an HxWx3 uint8 BGR image."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32).ravel() - small.mean(dtype=np.float32)
    length = np.linalg.norm(values)
    # A shorter one has less than 1 grey level of contrast: it would look like any other.
    return values / length if length > THUMBNAIL else np.zeros_like(values)


def find_duplicates(splits: Mapping[str, Sequence[CheckedSample]]) -> None:
    """Find images that stand twice, in one split or in two, exactly or nearly or in other parts.

    Args:
        splits: {split: its checked samples}; their findings are added to.
    """
    _find_copies(splits)
    for earlier_split, later_split in itertools.combinations(splits.values(), 2):
        _find_near_leaks(earlier_split, later_split)
    _find_divided_groups(splits)


def _find_copies(splits: Mapping[str, Sequence[CheckedSample]]) -> None:
    """Add a finding to each image that is exactly an earlier one."""
    originals: dict[bytes, tuple[str, CheckedSample]] = {}
    for split, samples in splits.items():
        for sample in samples:
            if sample.facts is None:
                continue
            original_split, original = originals.setdefault(sample.facts.digest, (split, sample))
            if original is not sample:
                kind = "duplicate" if original_split == split else "leak"
                sample.findings.append(_describe_copy(kind, original, sample))


def _describe_copy(kind: str, original: CheckedSample, copy: CheckedSample) -> Finding:
    """Return the finding of a copy of an earlier image."""
    assert original.facts is not None and copy.facts is not None
    same_labels = np.array_equal(original.facts.keypoints, copy.facts.keypoints)
    return Finding(
        kind,
        f"the same image as {original.entry.location}, "
        f"with {'the same' if same_labels else 'other'} keypoints",
    )


def _find_near_leaks(
    earlier_split: Sequence[CheckedSample], later_split: Sequence[CheckedSample]
) -> None:
    """Add a finding to the later split's images that look like, but are not, an earlier one's."""
    earlier = [(sample, sample.facts) for sample in earlier_split if sample.facts is not None]
    later = [(sample, sample.facts) for sample in later_split if sample.facts is not None]
    if not earlier or not later:
        return
    digests = {facts.digest for _, facts in earlier}
    thumbnails = np.stack([facts.thumbnail for _, facts in earlier])
    for start in range(0, len(later), _BLOCK):
        block = later[start : start + _BLOCK]
        correlations = np.stack([facts.thumbnail for _, facts in block]) @ thumbnails.T
        for (sample, facts), row in zip(block, correlations):
            nearest = int(row.argmax())
            if row[nearest] >= SAME_IMAGE and facts.digest not in digests:
                location = earlier[nearest][0].entry.location
                sample.findings.append(
                    Finding("near_leak", f"looks like {location} (correlation {row[nearest]:.3f})")
                )


def _find_divided_groups(splits: Mapping[str, Sequence[CheckedSample]]) -> None:
    """Add a finding to usable samples whose group, but not whose image, an earlier split has."""
    usable = {
        split: [sample for sample in samples if sample.facts is not None]
        for split, samples in splits.items()
    }
    for sample, first in find_divided_groups(usable, lambda sample: sample.entry.group):
        if not any(finding.kind in ("leak", "near_leak") for finding in sample.findings):
            location = first.entry.location
            sample.findings.append(
                Finding("divided_group", f"of one image, hand or film with {location}")
            )
