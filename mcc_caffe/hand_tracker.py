"""HandTracker follows the hands of a video: frames in, hands with ids and steady keypoints out.

tracker = HandTracker(HandPredictor())
for time, image in frames:
    for hand in tracker.follow(image, time):
        print(hand.id, hand.pose.keypoints)
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, NoReturn

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import has_plausible_bones
from mcc_caffe.core.images import check_image
from mcc_caffe.inference.looks import (
    Look,
    Looker,
    keypoints_box,
    longer_side,
    look_several_times,
    upright_look,
)
from mcc_caffe.inference.presence import UNCALIBRATED
from mcc_caffe.inference.reports import TRACKING
from mcc_caffe.inference.scenes import SCORE_THRESHOLD
from mcc_caffe.inference.smoothing import FilterParameters, KeypointFilter
from mcc_caffe.inference.tracking import Sighting, Tracks, is_sure
from mcc_caffe.paper import STRIDE
from mcc_caffe.predictor import HandPose, HandPredictor, check_finite

# Where a hand should be is known, so that a closer look is enough: a square of so many sides of its
# box, at this share of the net's input. With the shipped weights that is 144 pixels and .48 of a
# pass. At 144 pixels it was as accurate as a look of 1.8 sides at 192 (docs/trials.md).
_SQUARE_FACTOR, _INPUT_SHARE = 1.6, 0.7


class TrackedHand(NamedTuple):
    """A hand in a frame of a video.

    Attributes:
        id: Its number, from 1; None where one hand is looked for and none is followed, since
            nothing has both the score and the bones of a new hand. `pose.hand_present` may be true.
        pose: Its pose, with smoothed keypoints unless the tracker smooths none.
        raw_keypoints: (21, 3), the keypoints before they were smoothed.
    """

    id: int | None
    pose: HandPose
    raw_keypoints: np.ndarray


class HandTracker:
    """Follows the hands of one video or camera. Make a new one for the next.

    A hand is looked for in a square around where it should be. All of the frame is searched at the
    start, when a hand is lost, and every 30 frames. While no hand is there, it is searched every 10
    frames, with `one_hand` every frame. A hand that comes back within a second, near where it was
    or would have moved to, keeps its id.

    Attributes:
        one_hand: Whether the one large hand that a video shows is followed.
        smoothing: The parameters of the filter; None where keypoints are not smoothed.
    """

    def __init__(
        self,
        predictor: HandPredictor,
        *,
        one_hand: bool = False,
        every_frame: bool = False,
        smooth: bool = True,
    ):
        """Start with no hand.

        Args:
            predictor: Finds the hands.
            one_hand: Whether to follow the one large hand that a video shows.
            every_frame: Whether to look for the one hand in all of every frame, with the
                predictor's levels or looks; only with `one_hand`.
            smooth: Whether to smooth the keypoints.

        Raises:
            UserError: `predictor` is no HandPredictor, its net has no pose stage, a flag is neither
                true nor false, or `every_frame` is given without `one_hand`.
        """
        for name, flag in (
            ("one_hand", one_hand),
            ("every_frame", every_frame),
            ("smooth", smooth),
        ):
            _check_flag(name, flag)
        if every_frame and not one_hand:
            raise UserError(
                "every_frame=True with one_hand=False: levels and looks find one hand; "
                "give one_hand=True, or leave every_frame out"
            )
        if not isinstance(predictor, HandPredictor):
            raise UserError(f"predictor={predictor!r}: give a HandPredictor")
        predictor.require_pose()
        self._predictor, self.one_hand, self._every_frame = predictor, one_hand, every_frame
        self._tracks = Tracks(most_hands=1, idle_search_interval=1) if one_hand else Tracks()
        self._filters: dict[int, KeypointFilter] = {}
        self.smoothing = FilterParameters() if smooth else None
        self._image_shape: tuple[int, ...] | None = None  # of the frames
        self._last_time = -math.inf

    def __copy__(self) -> NoReturn:
        raise TypeError("a HandTracker cannot be copied: make a new one for each video")

    def follow(self, image: np.ndarray, time: float) -> list[TrackedHand]:
        """Find the hands in the next frame.

        Args:
            image: HxWx3 uint8 BGR; of all frames the same size.
            time: When the frame is shown, in seconds; steps may vary, and none goes back.

        Returns:
            The hands, by their ids. Where one hand is looked for, it is exactly one: if nothing is
            surely a hand, it is what the look at the frame says, without an id.

        Raises:
            UserError: The array is no such image, the time is no finite number or earlier than that
                of the frame before, an option of the predictor was changed to a wrong value, the
                net's heatmaps are not finite, or the weights file was changed before the first
                search.
        """
        check_image(image)
        check_finite("time", time)
        with self._predictor.lock:
            self._predictor.check_options()
            self._check_continues(image, time)
            hands = self._follow(image, time)
            # Not before: a frame that could not be looked at is none that the next continues.
            self._image_shape, self._last_time = image.shape, time
        return hands

    def _check_continues(self, image: np.ndarray, time: float) -> None:
        """Raise a UserError where a frame cannot come after the one before."""
        if self._image_shape not in (None, image.shape):
            raise UserError(
                f"the frame has the shape {image.shape}, those before it {self._image_shape}: give "
                "frames of one size, or a new HandTracker"
            )
        if time < self._last_time:
            raise UserError(
                f"time={time}: the frame before was shown at {self._last_time}, and times do not "
                "go back; give a new video a new HandTracker"
            )

    def _follow(self, image: np.ndarray, time: float) -> list[TrackedHand]:
        """Find the hands in the next frame; the predictor's lock is held."""
        finder = _FrameFinder(self._predictor, image, self.one_hand, self._every_frame)
        tracks = self._tracks.update(time, finder.look, finder.search)
        if self.smoothing:
            self._filters = {
                track_id: self._filters.get(track_id) or KeypointFilter(self.smoothing)
                for track_id in self._tracks.ids
            }
        hands = []
        for track in tracks:
            pose = finder.pose(track.sighting)
            if self.smoothing:
                pose = _smoothed(pose, self._filters[track.id], time)
            # A copy: callers may change it, and the track's own says where to look next.
            hands.append(TrackedHand(track.id, pose, track.sighting.keypoints.copy()))
        if self.one_hand and not hands:
            unsure = finder.last_searched
            assert unsure is not None  # without a hand every frame is searched
            hands.append(TrackedHand(None, finder.pose(unsure, is_hand=False), unsure.keypoints))
        return hands


def _check_flag(name: str, value: bool) -> None:
    """Raise a UserError where an argument is neither true nor false; 0 and 1 are taken, too."""
    if not (isinstance(value, (numbers.Integral, np.bool_)) and value in (0, 1)):
        raise UserError(f"{name}={value!r}: give True or False")


class _FrameFinder:
    """Looks for hands in one frame.

    Attributes:
        last_searched: What the last search for one hand said, sure or not.
    """

    def __init__(
        self, predictor: HandPredictor, image: np.ndarray, one_hand: bool, every_frame: bool
    ):
        self._predictor, self._image = predictor, image
        self._one_hand, self._every_frame = one_hand, every_frame
        self._network = predictor.open_network()
        self._looker = Looker(image, predictor.input_size, self._network)
        close_size = round(_INPUT_SHARE * predictor.input_size / STRIDE) * STRIDE
        self._close_looker = Looker(image, close_size, self._network)
        self.last_searched: Sighting | None = None

    def look(self, expected: Sequence[np.ndarray]) -> list[Sighting]:
        """Look once at a square around each hand's keypoints; see `Tracks.update`."""
        if self._every_frame:
            return []
        answers = self._close_looker.look([self._close_look(keypoints) for keypoints in expected])
        return [Sighting(answer.keypoints, answer) for answer in answers]

    def _close_look(self, keypoints: np.ndarray) -> Look:
        """Return the look at a hand, which is moved until its centre is inside of the image."""
        box, image_size = keypoints_box(keypoints), self._looker.image_size
        middle = (box[:2] + box[2:]) / 2
        shift = middle.clip(0, np.subtract(image_size, 1)) - middle
        return upright_look(keypoints + (*shift, 0), _SQUARE_FACTOR, image_size)

    def search(self, known: Sequence[np.ndarray]) -> list[Sighting]:
        """Search all of the frame; see `Tracks.update`."""
        if self._one_hand:
            sighting = self.last_searched = self._search_one_hand(is_known=bool(known))
            # A pose of several looks or levels needs a higher score than one look to be a hand.
            shows_hand = not isinstance(sighting.payload, HandPose) or sighting.payload.shows_hand
            return [sighting] if shows_hand and is_sure(sighting) else []
        answers = self._predictor.search(self._looker, self._network, known=known)
        return [Sighting(answer.keypoints, answer) for answer in answers]

    def _search_one_hand(self, *, is_known: bool) -> Sighting:
        """Look at all of the frame for the one hand; search it where the look mixes two hands.

        Args:
            is_known: Whether a hand is surely there already, so that no search is needed.
        """
        if self._every_frame:
            pose = self._predictor.predict(self._image)
            assert pose.keypoints is not None  # callers track with nets that have a pose stage
            return Sighting(pose.keypoints, pose)
        answer = look_several_times(self._looker, 1)
        sighting = Sighting(answer.keypoints, answer)
        mixes_hands = answer.score >= SCORE_THRESHOLD and not has_plausible_bones(answer.keypoints)
        if is_known or not mixes_hands or self._predictor.calibration == UNCALIBRATED:
            return sighting
        hands = self._predictor.search(self._looker, self._network)
        return next(filter(is_sure, (Sighting(hand.keypoints, hand) for hand in hands)), sighting)

    def pose(self, sighting: Sighting, *, is_hand: bool = True) -> HandPose:
        """Return the pose of a sighting, which surely is a hand or may be none."""
        if isinstance(sighting.payload, HandPose):
            pose = sighting.payload
        else:
            pose = self._predictor.make_pose(
                sighting.payload,
                self._looker.image_size,
                self._network.timings(),
                looks=None if is_hand else 1,
                method=TRACKING,
            )
        assert pose.keypoints is not None  # callers track with nets that have a pose stage
        return replace(
            pose,
            detected_box=None,  # in every frame the box goes around the keypoints
            keypoints=pose.keypoints.copy(),  # callers may change it, and the sighting has the same
        )


def _smoothed(pose: HandPose, keypoint_filter: KeypointFilter, time: float) -> HandPose:
    """Return the pose with its keypoints smoothed."""
    assert pose.keypoints is not None and pose.present is not None
    keypoints = pose.keypoints.copy()
    keypoints[:, :2] = keypoint_filter.smooth(
        keypoints[:, :2], pose.present, time=time, side=longer_side(pose.keypoints)
    )
    return replace(pose, keypoints=keypoints)
