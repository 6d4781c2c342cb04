"""The state of a folder that is being labelled, behind the page of `mcc-web label`.

    with open_session(folder, open_net(weights)) as session:
        picture = session.open_picture(session.overview().pictures[0].key)
        session.save(picture.key, Change(...))

Every change is on the disk when `save` returns. A change names the revision that it starts from;
where another tab has saved since, it is refused and nothing is lost.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2

from data_tools.taught_set import read_photographs
from mcc_caffe.core.errors import UserError, escape_unprintable
from mcc_caffe.core.files import LABELS_FOLDER
from mcc_caffe.core.result_folders import locked
from mcc_caffe.inference.input_files import UnreadableError
from mcc_caffe.serving.label_documents import Answer, SavedLabels, Split, Status
from mcc_caffe.serving.label_export import LabelExport, choose_split
from mcc_caffe.serving.label_files import (
    STATE,
    FolderPictures,
    LabelFiles,
    NotReadyError,
    Picture,
    list_pictures,
    shown_name,
)
from mcc_caffe.serving.label_messages import Change, OpenPicture, Overview, PictureState, Saved
from mcc_caffe.serving.moved_pictures import follow_moved_pictures
from mcc_caffe.serving.net_answers import LabelNet, NetAnswers

_JPEG_QUALITY = 92
_LONGEST_SIDE = 65_500  # pixels, of a JPEG
_JPEG_CACHE_SIZE = 4
_ANSWER_SECONDS = 20.0  # that a request waits for the net

_log = logging.getLogger(__name__)


class UnknownPictureError(UserError):
    """There is no picture with this key."""


class ConflictError(UserError):
    """The labels were changed elsewhere since the page loaded them."""


class ChangedFileError(UserError):
    """The file of the picture is not the one that the page has shown."""


class NotWrittenError(UserError):
    """Labels that are right cannot be written now, such as on a full disk."""


class LabelSession:
    """The labels of a folder's pictures. All methods may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        listed: FolderPictures,
        files: LabelFiles,
        net: LabelNet,
    ):
        """Read what is labelled already, write the data sets anew, and start the net.

        Args:
            folder: The folder of the pictures.
            listed: Its pictures.
            files: Keep the labels.
            net: Gives labels to start with.

        Raises:
            UserError: A file cannot be written, or the labels of a taught set are damaged.
        """
        self._folder, self._files = folder, files
        self._pictures = {picture.key: picture for picture in listed.pictures}
        self._passed_over = escape_unprintable(str(listed.passed_over))
        self._lock = threading.RLock()  # of the labels' files and what is known of them
        self._faults: dict[str, str] = {}
        self._saved: dict[str, tuple[int, Status]] = {}  # revision and status by key
        self._photographs = read_photographs(folder)
        self._split_by_group: dict[str, Split] = {}
        self._export = LabelExport(files)
        self._load(changed=follow_moved_pictures(files, listed.pictures))
        self._jpeg = functools.lru_cache(_JPEG_CACHE_SIZE)(_make_jpeg)
        self._answers = NetAnswers(files, listed.pictures, net, self._take_answer)

    def _load(self, changed: set[str]) -> None:
        """Read the labels and write the data sets anew.

        Args:
            changed: Keys of pictures whose files are others than those that were labelled. They
                are in no data set until a person has looked at them.
        """
        done = []
        for picture in self._pictures.values():
            try:
                saved = self._files.read(STATE, picture.key, SavedLabels)
            except UserError as error:
                self._faults[picture.key] = str(error)
                _log.warning("%s", error)
                continue
            if saved is not None:
                self._saved[picture.key] = saved.revision, saved.labels.status
                saved = saved.model_copy(update={"group": self._group(picture, saved)})
                self._note_split(saved)
                if saved.labels.status == "done" and picture.key not in changed:
                    done.append((picture, saved))
        self._faults.update(self._export.write_all(done))

    def close(self) -> None:
        """End the net's thread."""
        self._answers.close()

    def overview(self) -> Overview:
        """Return the state of all pictures.

        A picture whose file has changed is looked at again. If its labels are of the old picture,
        they are open from then on.
        """
        self._answers.look_at_changed(self._pictures.values())
        with self._lock:
            states = [self._state(picture) for picture in self._pictures.values()]
            return Overview(
                folder=shown_name(self._folder),
                pictures=sorted(
                    (state for state in states if not state.fault),
                    key=lambda state: (state.score is None, state.score),
                ),
                unreadable=[state for state in states if state.fault],
                passed_over=self._passed_over,
                splits=self._export.split_counts(),
            )

    def _state(self, picture: Picture) -> PictureState:
        key = picture.key
        revision, status = self._saved.get(key, (0, "open"))
        return PictureState(
            key=key,
            name=picture.name,
            status=status,
            revision=revision,
            score=self._answers.scores.get(key),
            fault=self._faults.get(key) or self._answers.faults.get(key, ""),
        )

    def open_picture(self, key: str) -> OpenPicture:
        """Return a picture's labels.

        Args:
            key: The picture's.

        Raises:
            UnknownPictureError: There is no such picture.
            NotReadyError: The net has not looked at it yet.
            UserError: It cannot be read, or its labels cannot.
        """
        picture = self._picture(key)
        answer = self._wait_for_answer(picture)
        with self._lock:
            saved = self._files.read(STATE, key, SavedLabels)
            return OpenPicture(
                key=key,
                name=picture.name,
                width=answer.width,
                height=answer.height,
                digest=answer.digest,
                revision=saved.revision if saved else 0,
                score=answer.score,
                labels=saved.labels if saved else answer.labels,
                first_labels=answer.labels,
            )

    def save(self, key: str, change: Change) -> Saved:
        """Save a picture's labels on the disk, and in the data sets where they are done.

        Args:
            key: The picture's.
            change: The labels.

        Raises:
            UnknownPictureError: There is no such picture.
            NotReadyError: The net has not looked at it yet.
            ChangedFileError: The labels are those of another file, which this one has replaced.
            ConflictError: Others have saved since the revision that the change starts from.
            NotWrittenError: The labels cannot be written.
            UserError: The labels do not fit the picture.
        """
        picture = self._picture(key)
        answer = self._wait_for_answer(picture)
        _check_labels_fit(picture, answer, change)
        labels, note = change.labels, ""
        if labels.status == "done" and (note := labels.find_gap()):
            labels = labels.model_copy(update={"status": "open"})
        with self._lock:
            before = self._files.read(STATE, key, SavedLabels)
            revision = before.revision if before else 0
            if before and before.token == change.token:  # it was saved, and the answer lost
                return Saved(revision=revision, status=before.labels.status, note=note)
            if change.revision != revision:
                raise ConflictError(
                    f"{picture.name} was changed in another tab (revision {revision}, yours starts "
                    f"from {change.revision}): load its labels, or keep yours"
                )
            split, group = before.split if before else None, self._group(picture, before)
            if labels.status == "done" and split is None:
                split = self._choose_split(group)
            saved = SavedLabels(
                name=picture.name,
                digest=answer.digest,
                width=answer.width,
                height=answer.height,
                is_turned=answer.is_turned,
                revision=revision + 1,
                token=change.token,
                split=split,
                group=group,
                labels=labels,
            )
            try:
                self._write(picture, saved)
            except UserError as error:
                raise NotWrittenError(str(error)) from None
            self._note_split(saved)
        return Saved(revision=saved.revision, status=labels.status, note=note)

    def picture_jpeg(self, key: str) -> bytes:
        """Return the upright picture as a JPEG that every browser shows.

        Raises:
            UnknownPictureError: There is no such picture.
            NotReadyError: The net has not looked at it yet, or at what has just replaced it.
            UserError: It cannot be read or shown.
        """
        picture = self._picture(key)
        answer = self._wait_for_answer(picture)  # raises where the picture cannot be shown
        return self._jpeg(picture, answer.digest)

    def _picture(self, key: str) -> Picture:
        if key not in self._pictures:
            raise UnknownPictureError(f"there is no picture {key!r}: load the page again")
        if key in self._faults:
            raise UserError(self._faults[key])
        return self._pictures[key]

    def _wait_for_answer(self, picture: Picture) -> Answer:
        answer = self._answers.wait_for(picture, _ANSWER_SECONDS)
        if answer is None:
            raise NotReadyError(f"the net is still at work on {picture.name}: try again")
        return answer

    def _group(self, picture: Picture, saved: SavedLabels | None) -> str | None:
        """Name the photograph that a picture is a crop of; None where none is known.

        A crop that was moved is known by what its labels say.
        """
        return self._photographs.get(picture.path) or (saved.group if saved else None)

    def _note_split(self, saved: SavedLabels) -> None:
        if saved.group is not None and saved.split is not None:
            self._split_by_group.setdefault(saved.group, saved.split)

    def _choose_split(self, group: str | None) -> Split:
        """Choose the split of a picture that has become done: that of its photograph, if any."""
        if group is not None and group in self._split_by_group:
            return self._split_by_group[group]
        counts = self._export.split_counts()
        return choose_split(counts["Test"], counts["Train"] + counts["Test"])

    def _write(self, picture: Picture, saved: SavedLabels) -> None:
        """Write the labels and the data sets; without the one the other does not count."""
        with self._files.replaced(STATE, picture.key, saved):
            if saved.labels.status == "done":
                self._export.put(picture, saved)
            else:
                self._export.remove(picture)
        self._saved[picture.key] = saved.revision, saved.labels.status

    def _take_answer(self, picture: Picture, answer: Answer) -> None:
        """Check that the page can show a picture, and that its labels are about its file.

        Raises:
            UnreadableError: The picture cannot be shown.
        """
        if max(answer.width, answer.height) > _LONGEST_SIDE:
            raise UnreadableError(
                f"it has {answer.width} x {answer.height} pixels, and the page shows "
                f"sides of up to {_LONGEST_SIDE:,}: cut a part out of it, and label that"
            )
        self._compare_with_file(picture, answer)

    def _compare_with_file(self, picture: Picture, answer: Answer) -> None:
        """Open the labels of a picture again whose file has changed since they were made.

        Where its size has changed, too, they cannot be right: they are kept under another name.
        """
        with self._lock:
            if picture.key in self._faults:
                return
            saved = self._files.read(STATE, picture.key, SavedLabels)
            if saved is None or saved.digest == answer.digest:
                return
            self._export.remove(picture)
            if (saved.width, saved.height) != (answer.width, answer.height):
                aside = self._files.set_aside(picture.key)
                del self._saved[picture.key]
                _log.warning(
                    "%s is another picture than the one that was labelled: its labels are now in "
                    "%s, label it anew",
                    picture.name,
                    aside,
                )
                return
            _log.warning(
                "%s has changed since it was labelled: look whether its labels still fit",
                picture.name,
            )
            labels = saved.labels.model_copy(update={"status": "open"})
            update = {
                "digest": answer.digest,
                "is_turned": answer.is_turned,
                "revision": saved.revision + 1,
                "labels": labels,
            }
            self._write(picture, saved.model_copy(update=update))


def _check_labels_fit(picture: Picture, answer: Answer, change: Change) -> None:
    """Check that labels are about the file that a picture has now.

    Raises:
        ChangedFileError: They are those of another file, which this one has replaced.
        UserError: They do not lie on the picture.
    """
    if change.digest != answer.digest:
        raise ChangedFileError(
            f"the file of {picture.name} has changed since the page showed it, and these are "
            "labels of the old picture: load it again"
        )
    try:
        change.labels.check_size(answer.width, answer.height)
    except UserError as error:
        raise UserError(f"{error}: load the picture again") from None


def _make_jpeg(picture: Picture, digest: str) -> bytes:
    """Encode a picture, whose file still has to have this digest."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", picture.read_version(digest), quality)[1].tobytes()


@contextlib.contextmanager
def open_session(folder: Path, net: LabelNet) -> Iterator[LabelSession]:
    """Open a folder for labelling; no other process can open it meanwhile.

    Args:
        folder: The folder of the pictures.
        net: Gives labels to start with.

    Yields:
        The session.

    Raises:
        UserError: There are no pictures, or the folder cannot be written into or is open elsewhere.
    """
    folder = folder.resolve()  # links to pictures are relative
    listed = list_pictures(folder)
    files = LabelFiles(folder)
    with locked(folder / LABELS_FOLDER / STATE, "labels these pictures"):
        session = LabelSession(folder, listed, files, net)
        try:
            yield session
        finally:
            session.close()
