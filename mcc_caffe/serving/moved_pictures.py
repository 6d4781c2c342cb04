"""Lets labels follow pictures that were moved or renamed.

The labels of a picture lie in a file that is named after its path. Where no picture has this path
any more, they are those of a picture that has the same content and no labels yet.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence

from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError
from mcc_caffe.serving.label_documents import SavedLabels
from mcc_caffe.serving.label_files import STATE, LabelFiles, Picture
from mcc_caffe.serving.net_answers import read_digest

_NAMED = 5  # pictures that a warning names

_log = logging.getLogger(__name__)


def follow_moved_pictures(files: LabelFiles, pictures: Sequence[Picture]) -> None:
    """Give labels whose picture is gone to the picture that has its content and no labels.

    Of several such pictures the first one gets them. A warning names the labels of which the
    picture is nowhere; they stay.

    Args:
        files: Keep the labels.
        pictures: All pictures that are there.

    Raises:
        UserError: A file cannot be written.
    """
    labelled = files.labelled_keys()
    orphans = _read_orphans(files, labelled - {picture.key for picture in pictures})
    if not orphans:
        return
    homes: defaultdict[str, list[Picture]] = defaultdict(list)
    unlabelled = [picture for picture in pictures if picture.key not in labelled]
    for picture in progress_bar(unlabelled, desc="moved pictures", unit="img", delay=2):
        homes[read_digest(files, picture)].append(picture)
    lost = []
    for key, saved in orphans.items():
        if not homes[saved.digest]:
            lost.append(saved.name)
            continue
        picture = homes[saved.digest].pop(0)
        files.give_to(key, picture.key)
        files.write(STATE, picture.key, saved.model_copy(update={"name": picture.name}))
        _log.info("%s is now %s: its labels go on there", saved.name, picture.name)
    if lost:
        names = ", ".join(lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "")
        _log.warning(
            "%d labels belong to pictures that are not there (%s): the data sets are without them, "
            "%s keeps them; put the pictures back, under any name",
            len(lost),
            names,
            files.root / STATE,
        )


def _read_orphans(files: LabelFiles, keys: set[str]) -> dict[str, SavedLabels]:
    """Read labels whose picture is gone, those that are done first; a damaged file is named."""
    orphans = {}
    for key in sorted(keys):
        try:
            saved = files.read(STATE, key, SavedLabels)
        except UserError as error:
            _log.warning("%s", error)
            continue
        assert saved is not None
        orphans[key] = saved
    return dict(sorted(orphans.items(), key=lambda orphan: orphan[1].labels.status != "done"))
