"""Lets labels follow images that were moved or renamed.

The labels of an image lie in a file that is named after the image's path. Where this path leads to
no image any more, or to other content, the labels go to an image with the content that was
labelled, if that image has no labels yet.
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Sequence

from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError, shorten_list
from mcc_caffe.serving.label_documents import SavedLabels
from mcc_caffe.serving.label_files import STATE, ImageFile, LabelFiles, key_of_no_image
from mcc_caffe.serving.net_answers import read_digest

_log = logging.getLogger(__name__)


def follow_moved_images(files: LabelFiles, images: Sequence[ImageFile]) -> set[str]:
    """Give labels whose image is elsewhere to the image that has its content.

    Of several such images the first one gets them. A warning names the labels of which the image is
    nowhere; they stay.

    Args:
        files: Keep the labels.
        images: All images that are there.

    Returns:
        The keys of images whose labels still are about another content: their files were changed.

    Raises:
        UserError: A file cannot be written.
    """
    labelled = files.labelled_keys()
    changed = _read_changed(files, [image for image in images if image.key in labelled])
    orphans = _read_orphans(files, labelled - {image.key for image in images})
    if not orphans and not changed:
        return set()
    free = [image for image in images if image.key not in labelled.difference(changed)]
    labels = _done_first({**orphans, **changed})
    new_images = _find_new_images(files, labels, free)
    # Names may have changed in a circle. Labels in the way of others first get a key of no image,
    # by which the next start finds them, should this one be killed.
    targets = {image.key for image in new_images.values()}
    moved = changed.keys() & (new_images.keys() | targets)
    aside = {key: key_of_no_image(key, changed[key]) for key in moved}
    for key, other_key in aside.items():
        files.give_to(key, other_key)
    for key, image in new_images.items():
        saved = labels[key]
        files.give_to(aside.get(key, key), image.key)
        files.write(STATE, image.key, saved.model_copy(update={"name": image.name}))
        _log.info("%s is now %s: its labels go on there", saved.name, image.name)
    unmatched = (orphans.keys() | moved) - new_images.keys()
    lost = [saved.name for key, saved in labels.items() if key in unmatched]
    if lost:
        _log.warning(
            "%d labels are of images that are gone or were replaced (%s): the data sets are "
            "without them, %s keeps them; put the images back, under any name",
            len(lost),
            shorten_list(lost),
            files.root / STATE,
        )
    return set(changed) - moved


def _read_changed(files: LabelFiles, images: Sequence[ImageFile]) -> dict[str, SavedLabels]:
    """Read the labels of images that now have another content; damaged files are left out."""
    changed = {}
    for image in progress_bar(images, desc="labels", unit="img", delay=2):
        with contextlib.suppress(UserError):  # which the session tells of its own accord
            saved = files.read(STATE, image.key, SavedLabels)
            assert saved is not None
            if read_digest(files, image) not in (saved.digest, ""):
                changed[image.key] = saved
    return changed


def _read_orphans(files: LabelFiles, keys: set[str]) -> dict[str, SavedLabels]:
    """Read labels whose image is gone; a damaged file is named."""
    orphans = {}
    for key in sorted(keys):
        try:
            saved = files.read(STATE, key, SavedLabels)
        except UserError as error:
            _log.warning("%s", error)
            continue
        assert saved is not None
        orphans[key] = saved
    return orphans


def _find_new_images(
    files: LabelFiles, labels: dict[str, SavedLabels], images: Sequence[ImageFile]
) -> dict[str, ImageFile]:
    """Return the image of each labels' content, by the labels' key; the first labels choose."""
    images_by_digest: defaultdict[str, list[ImageFile]] = defaultdict(list)
    for image in progress_bar(images, desc="moved images", unit="img", delay=2):
        images_by_digest[read_digest(files, image)].append(image)
    return {
        key: images_by_digest[saved.digest].pop(0)
        for key, saved in labels.items()
        if images_by_digest[saved.digest]
    }


def _done_first(labels: dict[str, SavedLabels]) -> dict[str, SavedLabels]:
    """Sort labels by their keys, those that are done before the others."""
    return dict(sorted(labels.items(), key=lambda item: (item[1].labels.status != "done", item[0])))
