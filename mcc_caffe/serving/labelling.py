"""The state of a folder that is being labelled, behind the page of `mcc-web label`.

    with open_session(folder, open_net(weights)) as session:
        image = session.open_image(session.overview().images[0].key)
        session.save(image.key, Change(...))

Every change is on the disk when `save` returns. A change names the revision that it starts from;
where another tab has saved since, it is refused and nothing is lost.
"""

import contextlib
import functools
import logging
import os
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
    FolderImages,
    ImageFile,
    LabelFiles,
    NotReadyError,
    list_images,
    shown_name,
)
from mcc_caffe.serving.label_messages import Change, ImageState, OpenImage, Overview, Saved
from mcc_caffe.serving.moved_images import follow_moved_images
from mcc_caffe.serving.net_answers import AT_NEXT_START, LabelNet, NetAnswers

_JPEG_QUALITY = 92
_LONGEST_SIDE = 65_500  # pixels, of a JPEG
_JPEG_CACHE_SIZE = 4
_ANSWER_SECONDS = 20.0  # that a request waits for the net

_log = logging.getLogger(__name__)


class UnknownImageError(UserError):
    """There is no image with this key."""


class ConflictError(UserError):
    """The labels were changed elsewhere since the page loaded them."""


class ChangedFileError(UserError):
    """The file of the image is not the one that the page has shown."""


class NotWrittenError(UserError):
    """Labels that are right cannot be written now, such as on a full disk."""


class LabelSession:
    """The labels of a folder's images. All methods may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        listed: FolderImages,
        files: LabelFiles,
        net: LabelNet,
    ):
        """Read what is labelled already, write the data sets anew, and start the net.

        Args:
            folder: The folder of the images.
            listed: Its images.
            files: Keep the labels.
            net: Gives labels to start with.

        Raises:
            UserError: A file cannot be written, or the labels of a taught set are damaged.
        """
        self._folder, self._files = folder, files
        self._images = {image.key: image for image in listed.images}
        self._passed_over = escape_unprintable(str(listed.passed_over))
        self._lock = threading.RLock()  # of the labels' files and what is known of them
        self._faults: dict[str, str] = {}
        self._saved: dict[str, tuple[int, Status]] = {}  # revision and status by key
        self._photographs = read_photographs(folder)
        self._split_by_group: dict[str, Split] = {}
        self._export = LabelExport(files)
        self._load(changed=follow_moved_images(files, listed.images))
        self._jpeg = functools.lru_cache(_JPEG_CACHE_SIZE)(_make_jpeg)
        self._answers = NetAnswers(files, listed.images, net, self._take_answer)

    def _load(self, changed: set[str]) -> None:
        """Read the labels and write the data sets anew.

        Args:
            changed: Keys of images whose files are others than those that were labelled. They are
                in no data set until a person has looked at them.
        """
        done = []
        for image in self._images.values():
            try:
                saved = self._files.read(STATE, image.key, SavedLabels)
            except UserError as error:
                self._faults[image.key] = f"{error}; {AT_NEXT_START}"
                _log.warning("%s", self._faults[image.key])
                continue
            if saved is not None:
                self._saved[image.key] = saved.revision, saved.labels.status
                saved = saved.model_copy(update={"group": self._group(image, saved)})
                self._note_split(saved)
                if saved.labels.status == "done" and image.key not in changed:
                    done.append((image, saved))
        for key, fault in self._export.write_all(done).items():
            self._faults[key] = f"{fault}; {AT_NEXT_START}"

    def close(self) -> None:
        """End the net's thread."""
        self._answers.close()

    def overview(self) -> Overview:
        """Return the state of all images.

        An image whose file has changed is looked at again. If its labels are of the old image, they
        are open from then on.
        """
        self._answers.look_at_changed(self._images.values())
        with self._lock:
            states = [self._state(image) for image in self._images.values()]
            return Overview(
                folder=shown_name(self._folder),
                images=sorted(
                    (state for state in states if not state.fault),
                    key=lambda state: (state.score is None, state.score),
                ),
                unreadable=[state for state in states if state.fault],
                passed_over=self._passed_over,
                splits=self._export.split_counts(),
            )

    def _state(self, image: ImageFile) -> ImageState:
        key = image.key
        revision, status = self._saved.get(key, (0, "open"))
        return ImageState(
            key=key,
            name=image.name,
            status=status,
            revision=revision,
            score=self._answers.scores.get(key),
            fault=self._faults.get(key) or self._answers.faults.get(key, ""),
        )

    def open_image(self, key: str) -> OpenImage:
        """Return an image's labels.

        Args:
            key: The image's.

        Raises:
            UnknownImageError: There is no such image.
            NotReadyError: The net has not looked at it yet.
            UserError: It cannot be read, or its labels cannot.
        """
        image = self._image(key)
        answer = self._wait_for_answer(image)
        with self._lock:
            saved = self._files.read(STATE, key, SavedLabels)
            return OpenImage(
                key=key,
                name=image.name,
                width=answer.width,
                height=answer.height,
                digest=answer.digest,
                revision=saved.revision if saved else 0,
                score=answer.score,
                labels=saved.labels if saved else answer.labels,
                first_labels=answer.labels,
            )

    def save(self, key: str, change: Change) -> Saved:
        """Save an image's labels on the disk, and in the data sets where they are done.

        Args:
            key: The image's.
            change: The labels.

        Raises:
            UnknownImageError: There is no such image.
            NotReadyError: The net has not looked at it yet.
            ChangedFileError: The labels are those of another file, which this one has replaced.
            ConflictError: Others have saved since the revision that the change starts from.
            NotWrittenError: The labels cannot be written.
            UserError: The labels do not fit the image.
        """
        image = self._image(key)
        answer = self._wait_for_answer(image)
        _check_labels_fit(image, answer, change)
        labels, note = change.labels, ""
        if labels.status == "done" and (note := labels.find_gap()):
            labels = labels.model_copy(update={"status": "open"})
        with self._lock:
            before = self._files.read(STATE, key, SavedLabels)
            revision = before.revision if before else 0
            if before and before.token == change.token:  # it was saved, and the answer lost
                return self._outcome(before, note)
            if change.revision != revision:
                raise ConflictError(
                    f"{image.name} was changed in another tab (revision {revision}, yours starts "
                    f"from {change.revision}): load its labels, or keep yours"
                )
            split, group = before.split if before else None, self._group(image, before)
            if labels.status == "done" and split is None:
                split = self._choose_split(group)
            saved = SavedLabels(
                name=image.name,
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
                self._write(image, saved)
            except UserError as error:
                raise NotWrittenError(str(error)) from None
            self._note_split(saved)
            return self._outcome(saved, note)

    def _outcome(self, saved: SavedLabels, note: str) -> Saved:
        """Return what the page is told of labels that are saved."""
        splits = self._export.split_counts()
        return Saved(revision=saved.revision, status=saved.labels.status, note=note, splits=splits)

    def image_jpeg(self, key: str) -> bytes:
        """Return the upright image as a JPEG that every browser shows.

        Raises:
            UnknownImageError: There is no such image.
            NotReadyError: The net has not looked at it yet, or at what has just replaced it.
            UserError: It cannot be read or shown.
        """
        image = self._image(key)
        answer = self._wait_for_answer(image)  # raises where the image cannot be shown
        return self._jpeg(image, answer.digest)

    def _image(self, key: str) -> ImageFile:
        if key not in self._images:
            raise UnknownImageError(f"there is no image {key!r}: load the page again")
        if key in self._faults:
            raise UserError(self._faults[key])
        return self._images[key]

    def _wait_for_answer(self, image: ImageFile) -> Answer:
        answer = self._answers.wait_for(image, _ANSWER_SECONDS)
        if answer is None:
            raise NotReadyError(f"the net is still at work on {image.name}: try again")
        return answer

    def _group(self, image: ImageFile, saved: SavedLabels | None) -> str | None:
        """Name the photograph that an image is a crop of; None where none is known.

        A crop that was moved is known by what its labels say.
        """
        return self._photographs.get(image.path) or (saved.group if saved else None)

    def _note_split(self, saved: SavedLabels) -> None:
        if saved.group is not None and saved.split is not None:
            self._split_by_group.setdefault(saved.group, saved.split)

    def _choose_split(self, group: str | None) -> Split:
        """Choose the split of an image that has become done: that of its photograph, if any."""
        if group is not None and group in self._split_by_group:
            return self._split_by_group[group]
        counts = self._export.split_counts()
        return choose_split(counts["Test"], counts["Train"] + counts["Test"])

    def _write(self, image: ImageFile, saved: SavedLabels) -> None:
        """Write the labels and the data sets; without the one the other does not count."""
        with self._files.replaced(STATE, image.key, saved):
            if saved.labels.status == "done":
                self._export.put(image, saved)
            else:
                self._export.remove(image)
        self._saved[image.key] = saved.revision, saved.labels.status

    def _take_answer(self, image: ImageFile, answer: Answer) -> None:
        """Check that the page can show an image, and that its labels are about its file.

        Raises:
            UnreadableError: The image cannot be shown.
        """
        if max(answer.width, answer.height) > _LONGEST_SIDE:
            raise UnreadableError(
                f"it has {answer.width} x {answer.height} pixels, and the page shows "
                f"sides of up to {_LONGEST_SIDE:,}: cut a part out of it, and label that"
            )
        self._compare_with_file(image, answer)

    def _compare_with_file(self, image: ImageFile, answer: Answer) -> None:
        """Open the labels of an image again whose file has changed since they were made.

        Where its size has changed, too, they cannot be right: they wait for the old image.
        """
        with self._lock:
            if image.key in self._faults:
                return
            saved = self._files.read(STATE, image.key, SavedLabels)
            if saved is None or saved.digest == answer.digest:
                return
            self._export.remove(image)
            if (saved.width, saved.height) != (answer.width, answer.height):
                self._files.set_aside(image.key, saved)
                del self._saved[image.key]
                _log.warning(
                    "%s is another image than the one that was labelled: label it anew; the old "
                    "labels count again when their image returns, under any name",
                    image.name,
                )
                return
            _log.warning(
                "%s has changed since it was labelled: look whether its labels still fit",
                image.name,
            )
            labels = saved.labels.model_copy(update={"status": "open"})
            update = {
                "digest": answer.digest,
                "is_turned": answer.is_turned,
                "revision": saved.revision + 1,
                "labels": labels,
            }
            self._write(image, saved.model_copy(update=update))


def _check_labels_fit(image: ImageFile, answer: Answer, change: Change) -> None:
    """Check that labels are about the file that an image has now.

    Raises:
        ChangedFileError: They are those of another file, which this one has replaced.
        UserError: They do not lie on the image.
    """
    if change.digest != answer.digest:
        raise ChangedFileError(
            f"the file of {image.name} has changed since the page showed it, and these are "
            "labels of the old image: load it again"
        )
    try:
        change.labels.check_size(answer.width, answer.height)
    except UserError as error:
        raise UserError(f"{error}: load the image again") from None


def _make_jpeg(image: ImageFile, digest: str) -> bytes:
    """Encode an image, whose file still has to have this digest."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", image.read_version(digest), quality)[1].tobytes()


@contextlib.contextmanager
def open_session(folder: Path, net: LabelNet) -> Iterator[LabelSession]:
    """Open a folder for labelling; no other process can open it meanwhile.

    Args:
        folder: The folder of the images.
        net: Gives labels to start with.

    Yields:
        The session.

    Raises:
        UserError: There are no images, or the folder cannot be written into or is open elsewhere.
    """
    folder = Path(os.path.realpath(folder))  # links to images are relative
    listed = list_images(folder)
    files = LabelFiles(folder)
    with locked(folder / LABELS_FOLDER / STATE, "labels these images"):
        session = LabelSession(folder, listed, files, net)
        try:
            yield session
        finally:
            session.close()
