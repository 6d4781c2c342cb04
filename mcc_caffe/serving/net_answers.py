"""What the net says of each image: computed in a thread of its own, once, and kept in files."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import file_sha256
from mcc_caffe.core.images import read_header
from mcc_caffe.inference.input_files import UnreadableError
from mcc_caffe.predictor import DEFAULT_LOOKS, HandPose, HandPredictor
from mcc_caffe.serving.label_documents import Answer, Labels, Point
from mcc_caffe.serving.label_files import ANSWERS, ImageFile, LabelFiles
from mcc_caffe.serving.mask_refinement import refine_mask
from mcc_caffe.serving.run_lengths import encode_runs

# Part of the net's name. Raise a number when what it counts changes (HandPredictor's presence,
# refine_mask): answers are then computed anew.
_METHOD = f"looks {DEFAULT_LOOKS} upright, presence 2, mask 1"

# What is said of a fault that the page shows until the command ends, whatever is mended meanwhile.
AT_NEXT_START = "the command looks at the image again at its next start"

_log = logging.getLogger(__name__)


class LabelNet(NamedTuple):
    """The net that gives labels to start with.

    Attributes:
        predictor: Finds the hand.
        name: Names its weights and what is made of its answers. Answers are computed anew where
            it changes.
    """

    predictor: HandPredictor
    name: str


def open_net(weights: Path, variant: str = "mini") -> LabelNet:
    """Open the net.

    Args:
        weights: A caffemodel or packed weights.
        variant: The size of the network.

    Raises:
        UserError: A file is missing or does not fit, or the net finds no keypoints.
    """
    predictor = HandPredictor(weights, variant, looks=DEFAULT_LOOKS)
    predictor.require_pose()
    name = f"{file_sha256(weights)[:16]}, {_METHOD}"
    return LabelNet(predictor, name)


_Stamp = tuple[int, int, int, int]  # as in `Answer`


class NetAnswers:
    """Computes the net's answer to every image, those that are asked for first.

    Attributes:
        faults: {key: why the image cannot be read, which does not name it}.
        scores: {key: the answer's score}, as far as they are known.
    """

    def __init__(
        self,
        files: LabelFiles,
        images: Sequence[ImageFile],
        net: LabelNet,
        on_answer: Callable[[ImageFile, Answer], None],
    ):
        """Begin.

        Args:
            files: Keep the answers.
            images: The images, in the order in which they are looked at.
            net: The net; from now on only the thread uses it.
            on_answer: Is called in the thread with each answer, before others get it.
        """
        self.faults: dict[str, str] = {}
        self.scores: dict[str, float] = {}
        self._stamps: dict[str, _Stamp] = {}  # of the files that the answers are about
        self._unwritten: dict[str, Answer] = {}  # answers for which the disk had no room
        self._files, self._on_answer = files, on_answer
        self._waiting = {image.key: image for image in images}
        self._changed = threading.Condition()
        self._is_closed = False
        self._predictor, self._net_name = net
        self._thread = threading.Thread(target=self._run, name="net answers", daemon=True)
        self._thread.start()

    def wait_for(self, image: ImageFile, seconds: float) -> Answer | None:
        """Return the answer to an image, which is computed next if it is not known.

        Args:
            image: The image.
            seconds: How long to wait.

        Returns:
            The answer; None where it takes longer.

        Raises:
            UserError: The image cannot be read.
        """
        with self._changed:
            is_outdated = self._stamps.get(image.key) != _stamp(image.path)
            if is_outdated or self._is_lost(image.key):
                self._forget(image.key)
                self._waiting = {image.key: image, **self._waiting}  # the first one is next
                self._changed.notify_all()
            self._changed.wait_for(
                lambda: image.key in self.scores or image.key in self.faults, seconds
            )
            if image.key in self.faults:
                raise UserError(self.faults[image.key])
            if image.key not in self.scores:
                return None
        return self._unwritten.get(image.key) or self._files.read(ANSWERS, image.key, Answer)

    def look_at_changed(self, images: Iterable[ImageFile]) -> None:
        """Have the thread look again, before all others, at images whose files have changed.

        Images that it has not looked at yet wait for their turn.
        """
        with self._changed:
            changed = {
                image.key: image
                for image in images
                if self._stamps.get(image.key) not in (None, _stamp(image.path))
            }
            if not changed:
                return
            for key in changed:
                self._forget(key)
            self._waiting = {**changed, **self._waiting}
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, after the image that it works on."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def _is_lost(self, key: str) -> bool:
        """Tell whether an answer was there, and its file has been removed or damaged since."""
        is_written = key in self.scores and key not in self._unwritten
        return is_written and _read_answer(self._files, key) is None

    def _forget(self, key: str) -> None:
        self.scores.pop(key, None)
        self.faults.pop(key, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._waiting)
                if self._is_closed:
                    return
                image = next(iter(self._waiting.values()))
            stamp, score, fault, is_of_image = _stamp(image.path), 0.0, "", True
            try:
                answer = self._known_answer(image, stamp) or self._compute(image, stamp)
                self._on_answer(image, answer)
                score = answer.score
            except UnreadableError as error:
                fault = str(error)
            except UserError as error:  # such as of a full disk
                fault, is_of_image = f"{error}; {AT_NEXT_START}", False
            except Exception as error:  # such as a lack of memory: the others go on
                _log.exception("%s", image.name)
                reason = str(error) or type(error).__name__
                fault, is_of_image = f"{reason}; {AT_NEXT_START}", False
            with self._changed:
                self._waiting.pop(image.key, None)
                if _stamp(image.path) != stamp:  # who asks now must not get the old file's answer
                    self._waiting[image.key] = image
                    continue
                self._stamps.pop(image.key, None)
                if is_of_image:  # else whoever asks for it next has it tried again
                    self._stamps[image.key] = stamp
                if fault:
                    self.faults[image.key] = fault
                else:
                    self.scores[image.key] = score
                self._changed.notify_all()

    def _known_answer(self, image: ImageFile, stamp: _Stamp) -> Answer | None:
        """Return the kept answer, if it is this net's to this file.

        A file that was only touched or moved has another stamp and the same content.
        """
        answer = _read_answer(self._files, image.key)
        if answer is None or answer.net != self._net_name:
            return None
        if answer.stamp == stamp:
            return answer
        if read_digest(self._files, image) != answer.digest:
            return None
        answer = answer.model_copy(update={"stamp": stamp})
        self._keep(image, answer)
        return answer

    def _compute(self, image: ImageFile, stamp: _Stamp) -> Answer:
        """Look at an image and keep the answer; UserError where it cannot be read."""
        content = image.read_bytes()
        pixels = image.decode(content)
        pose = self._predictor.predict(pixels)
        answer = Answer(
            net=self._net_name,
            stamp=stamp,
            digest=hashlib.sha256(content).hexdigest(),
            width=pixels.shape[1],
            height=pixels.shape[0],
            is_turned=read_header(content).orientation > 1,
            score=pose.score or 0.0,
            labels=first_labels(pixels, pose),
        )
        self._keep(image, answer)
        return answer

    def _keep(self, image: ImageFile, answer: Answer) -> None:
        """Write an answer; one that cannot be written, as on a full disk, is kept in memory."""
        try:
            self._files.write(ANSWERS, image.key, answer)
            self._unwritten.pop(image.key, None)
        except UserError as error:
            if not self._unwritten:
                _log.warning("%s", error)
            self._unwritten[image.key] = answer


def read_digest(files: LabelFiles, image: ImageFile) -> str:
    """Return the digest of an image's file, which is not read where a kept answer has it.

    Args:
        files: Keep the answers.
        image: The image.

    Returns:
        As in `Answer`; "" where the file cannot be read.
    """
    answer = _read_answer(files, image.key)
    if answer and answer.stamp == _stamp(image.path):
        return answer.digest
    try:
        return file_sha256(image.path)
    except OSError:
        return ""


def _read_answer(files: LabelFiles, key: str) -> Answer | None:
    """Return the kept answer to an image; None where there is none, or it is damaged."""
    try:
        return files.read(ANSWERS, key, Answer)
    except UserError:
        return None


def _stamp(path: Path) -> _Stamp:
    """Return the stamp of a file; zeros where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0, 0
    # The time of the inode differs where size and time of the content were kept, as by `cp -p`.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def first_labels(image: np.ndarray, pose: HandPose) -> Labels:
    """Make labels to start with of what the net says.

    Args:
        image: HxWx3 uint8 BGR.
        pose: The net's answer to it, with keypoints.

    Returns:
        Open labels. A keypoint of which the net is not sure is missing, and lies where the net
        would have it.
    """
    assert pose.keypoints is not None and pose.present is not None
    height, width = image.shape[:2]
    xy = pose.keypoints[:, :2].clip(0, (width - 1, height - 1)).round(2)
    points = tuple(
        Point(x=x, y=y, missing=not present)
        for (x, y), present in zip(xy.tolist(), pose.present.tolist())
    )
    mask = np.zeros((height, width), np.uint8)
    if pose.mask is not None:
        mask = refine_mask(image, pose.mask)
    return Labels(status="open", points=points, runs=tuple(encode_runs(mask)))
