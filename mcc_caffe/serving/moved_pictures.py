"""Lets labels follow pictures that were moved or renamed.

The labels of a picture lie in a file that is named after its path. Where no picture has this path
any more, or one of another content, they are those of a picture that has their content and has no
labels for it yet.
"""

import contextlib
import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence

from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError, shorten_list
from mcc_caffe.serving.label_documents import SavedLabels
from mcc_caffe.serving.label_files import STATE, LabelFiles, Picture
from mcc_caffe.serving.net_answers import read_digest

_log = logging.getLogger(__name__)


def follow_moved_pictures(files: LabelFiles, pictures: Sequence[Picture]) -> set[str]:
    """Give labels whose picture is elsewhere to the picture that has its content.

    Of several such pictures the first one gets them. A warning names the labels of which the
    picture is nowhere; they stay.

    Args:
        files: Keep the labels.
        pictures: All pictures that are there.

    Returns:
        The keys of pictures whose labels still are about another content: their files were changed.

    Raises:
        UserError: A file cannot be written.
    """
    labelled = files.labelled_keys()
    changed = _read_changed(files, [picture for picture in pictures if picture.key in labelled])
    orphans = _read_orphans(files, labelled - {picture.key for picture in pictures})
    if not orphans and not changed:
        return set()
    free = [picture for picture in pictures if picture.key not in labelled.difference(changed)]
    labels = _done_first({**orphans, **changed})
    new_pictures = _find_new_pictures(files, labels, free)
    # Names may have changed in a circle. Labels in the way of others first get a key of no picture,
    # by which the next start finds them, should this one be killed.
    targets = {picture.key for picture in new_pictures.values()}
    moved = changed.keys() & (new_pictures.keys() | targets)
    aside = {key: _key_of_no_picture(key, changed[key]) for key in moved}
    for key, other_key in aside.items():
        files.give_to(key, other_key)
    for key, picture in new_pictures.items():
        saved = labels[key]
        files.give_to(aside.get(key, key), picture.key)
        files.write(STATE, picture.key, saved.model_copy(update={"name": picture.name}))
        _log.info("%s is now %s: its labels go on there", saved.name, picture.name)
    unmatched = (orphans.keys() | moved) - new_pictures.keys()
    lost = [saved.name for key, saved in labels.items() if key in unmatched]
    if lost:
        _log.warning(
            "%d labels belong to pictures that are not there (%s): the data sets are without them, "
            "%s keeps them; put the pictures back, under any name",
            len(lost),
            shorten_list(lost),
            files.root / STATE,
        )
    return set(changed) - moved


def _read_changed(files: LabelFiles, pictures: Sequence[Picture]) -> dict[str, SavedLabels]:
    """Read the labels of pictures that now have another content; damaged files are left out."""
    changed = {}
    for picture in progress_bar(pictures, desc="labels", unit="img", delay=2):
        with contextlib.suppress(UserError):  # which the session tells of its own accord
            saved = files.read(STATE, picture.key, SavedLabels)
            assert saved is not None
            if read_digest(files, picture) not in (saved.digest, ""):
                changed[picture.key] = saved
    return changed


def _read_orphans(files: LabelFiles, keys: set[str]) -> dict[str, SavedLabels]:
    """Read labels whose picture is gone; a damaged file is named."""
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


def _find_new_pictures(
    files: LabelFiles, labels: dict[str, SavedLabels], pictures: Sequence[Picture]
) -> dict[str, Picture]:
    """Return the picture of each labels' content, by the labels' key; the first labels choose."""
    pictures_by_digest: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in progress_bar(pictures, desc="moved pictures", unit="img", delay=2):
        pictures_by_digest[read_digest(files, picture)].append(picture)
    return {
        key: pictures_by_digest[saved.digest].pop(0)
        for key, saved in labels.items()
        if pictures_by_digest[saved.digest]
    }


def _done_first(labels: dict[str, SavedLabels]) -> dict[str, SavedLabels]:
    """Sort labels by their keys, those that are done before the others."""
    return dict(sorted(labels.items(), key=lambda item: (item[1].labels.status != "done", item[0])))


def _key_of_no_picture(key: str, saved: SavedLabels) -> str:
    """Return a key for labels whose picture is not where their key says."""
    return f"moved-{hashlib.sha256(f'{key} {saved.digest}'.encode()).hexdigest()[:12]}"
