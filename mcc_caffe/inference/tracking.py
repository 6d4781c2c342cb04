"""Follows hands from frame to frame: where to look for each, and which answer is which hand.

A hand is looked for where it should be by now. All of the frame is searched at the start, when a
hand is lost, and every so many frames. This module knows no network: `Tracks.update` gets two
functions that look and search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.hand import ENOUGH_KEYPOINTS, has_plausible_bones, nms
from mcc_caffe.inference.looks import keypoints_box, longer_side
from mcc_caffe.inference.scenes import SCORE_THRESHOLD, are_same_hand
from mcc_caffe.paper import CONFIDENCE_THRESHOLD

# Frames between two searches: while a hand is followed, and while none is.
SEARCH_INTERVAL = 30
IDLE_SEARCH_INTERVAL = 10
# A hand that is followed may be less sure than one that is found anew, and may have an implausible
# finger (its bones are not checked): its score stays above the first number, or above this share of
# the score that it was found with. The box head may have found it where a look is hardly sure; a
# search has to find it again then.
FOLLOWED_SCORE, _FOLLOWED_SHARE = 0.25, 0.6
MISSING_SECONDS = 1.0  # a hand that is missing for longer is forgotten
# The greatest mean distance, in sides of the box, of an answer's keypoints to where they are
# expected: of a hand that was there in the last frame, and of one that was missing.
_NEAR, _NEAR_MISSING = 0.7, 1.0
_NMS_DISTANCE = 0.25  # two answers whose keypoints are nearer to each other are of one hand
_COASTING_SECONDS = 0.5  # a missing hand is expected to go on for so long
_VELOCITY_SECONDS = 0.1  # over which a hand's velocity is averaged
# A hand that another one begins to cover is less sure from frame to frame, and its keypoints slide
# off to what is still seen of it. So the velocity stays where the score is below this share of the
# best score, which is forgotten over so many seconds.
_SURE_SHARE, _BEST_SCORE_SECONDS = 0.9, 0.5
_FORBIDDEN = 1e3  # assignment cost of a pair that is too far apart


class Sighting(NamedTuple):
    """A hand that was seen in a frame.

    Attributes:
        keypoints: (21, 3) of x, y in pixels and confidence.
        payload: The caller's own object for this hand, returned unchanged.
    """

    keypoints: np.ndarray
    payload: Any = None

    @property
    def score(self) -> float:
        """The mean confidence of the 21 keypoints."""
        return float(self.keypoints[:, 2].mean())

    @property
    def box(self) -> np.ndarray:
        """The box (4,) of left, top, right, bottom around the confident keypoints."""
        return keypoints_box(self.keypoints)


@dataclass
class Track:
    """A hand that is followed.

    Attributes:
        id: Its number, from 1; no two hands of a video have the same.
        sighting: The last one.
        time: When that was, in seconds.
        velocity: (2,) pixels a second.
        least_score: The lowest score at which a look's answer is still taken for this hand.
        is_missing: Whether the hand was not seen in the last frame.
        best_score: The best score of late; an older one counts for less. It starts at 0, not at the
            search's score: the first look after it sets the velocity even where it is less sure.
            Otherwise a hand that moves would be expected too far back.
    """

    id: int
    sighting: Sighting
    time: float
    velocity: np.ndarray
    least_score: float = FOLLOWED_SCORE
    is_missing: bool = False
    best_score: float = 0.0

    @property
    def is_unsure(self) -> bool:
        """Whether a search has to find the hand again."""
        return self.is_missing or self.sighting.score < FOLLOWED_SCORE

    def may_be(self, sighting: Sighting) -> bool:
        """Tell whether a look's answer is sure enough to be this hand."""
        if self.is_missing:  # where the hand should be there may be nothing, or another thing
            return is_sure(sighting)
        return sighting.score >= self.least_score

    def expected_keypoints(self, time: float) -> np.ndarray:
        """Return where the keypoints should be at a time, (21, 3) with the last confidences."""
        seconds = min(time - self.time, _COASTING_SECONDS)
        expected = self.sighting.keypoints.astype(np.float64)
        expected[:, :2] += self.velocity * seconds
        return expected

    def distance(self, sighting: Sighting, time: float) -> float:
        """Return how far a sighting is from where the hand should be, in sides of its box.

        A missing hand may also have stopped: the nearer of where it should be and where it was.
        """
        distance = keypoints_distance(self.expected_keypoints(time), sighting.keypoints)
        if self.is_missing:
            stopped = keypoints_distance(self.sighting.keypoints, sighting.keypoints)
            distance = min(distance, stopped)
        return distance

    def update(self, sighting: Sighting, time: float) -> None:
        """Update position, time and velocity from a new sighting."""
        step = time - self.time
        if step > 0:  # not at a second sighting in one frame, nor where times stand still
            best_score = self.best_score * np.exp(-step / _BEST_SCORE_SECONDS)
            if sighting.score >= _SURE_SHARE * best_score:
                before, now = self.sighting.keypoints, sighting.keypoints
                moved = np.median((now - before)[_both_confident(before, now), :2], axis=0)
                share = 1 - np.exp(-step / _VELOCITY_SECONDS)
                self.velocity = self.velocity + share * (moved / step - self.velocity)
            self.best_score = max(sighting.score, best_score)
        self.sighting, self.time, self.is_missing = sighting, time, False


class Tracks:
    """The hands that are followed through a video."""

    def __init__(
        self, *, most_hands: int | None = None, idle_search_interval: int = IDLE_SEARCH_INTERVAL
    ):
        """Start with no hand.

        Args:
            most_hands: The most hands to follow, the most confident ones; None for no limit.
            idle_search_interval: The number of frames from one search to the next where no hand is
                followed.
        """
        self._most_hands, self._idle_search_interval = most_hands, idle_search_interval
        self._tracks: list[Track] = []
        self._last_id = 0
        self._frames_since_search: int | None = None  # None: no search yet, or it failed

    @property
    def _visible(self) -> list[Track]:
        """The hands that were seen in the last frame, by their ids."""
        return [track for track in self._tracks if not track.is_missing]

    @property
    def ids(self) -> list[int]:
        """The numbers of all hands that are not forgotten, the missing ones, too."""
        return [track.id for track in self._tracks]

    def update(
        self,
        time: float,
        look: Callable[[Sequence[np.ndarray]], Sequence[Sighting]],
        search: Callable[[Sequence[np.ndarray]], Sequence[Sighting]],
    ) -> list[Track]:
        """Follow the hands into the next frame.

        Args:
            time: When the frame is shown, in seconds.
            look: Looks where hands should be, at each of the (21, 3) keypoints of x, y in pixels
                and confidence, and returns a sighting for each, in their order, or none at all.
            search: Searches all of the frame for what surely is a hand. It gets the boxes of the
                hands that are surely there.

        Returns:
            The hands that are there, by their ids.
        """
        followed_before = {track.id for track in self._visible}
        expected = [track.expected_keypoints(time) for track in self._tracks]
        sightings = [
            sighting
            for track, sighting in zip(self._tracks, look(expected))
            if track.may_be(sighting)
        ]
        self._assign(self._tracks, nms_sightings(sightings), time)
        is_lost = any(track.is_missing and track.id in followed_before for track in self._tracks)
        self._search(time, search, is_lost)
        self._forget(time)
        return self._visible

    def _search(
        self,
        time: float,
        search: Callable[[Sequence[np.ndarray]], Sequence[Sighting]],
        is_lost: bool,
    ) -> None:
        """Search all of the frame if it is time to, or if a hand was lost."""
        is_first = self._frames_since_search is None
        self._frames_since_search = (self._frames_since_search or 0) + 1
        interval = SEARCH_INTERVAL if self._visible else self._idle_search_interval
        if not (is_first or is_lost or self._frames_since_search >= interval):
            return
        self._frames_since_search = None  # where the search fails, the next frame has one
        unsure = [track for track in self._tracks if track.is_unsure]
        known = [track.sighting.box for track in self._tracks if not track.is_unsure]
        sightings = [
            sighting
            for sighting in search(known)
            if not any(are_same_hand(sighting.box, box) for box in known)
        ]
        self._frames_since_search = 0
        for sighting in self._assign(unsure, sightings, time):
            self._last_id += 1
            least_score = min(FOLLOWED_SCORE, _FOLLOWED_SHARE * sighting.score)
            track = Track(self._last_id, sighting, time, np.zeros(2), least_score)
            self._tracks.append(track)

    def _assign(
        self, tracks: Sequence[Track], sightings: Sequence[Sighting], time: float
    ) -> list[Sighting]:
        """Give each sighting to the hand that it fits; return those that fit none.

        Of all ways to do so, the one with the smallest sum of distances is taken. A hand that gets
        no sighting is missing.
        """
        pairs = _nearest_pairs(tracks, sightings, time)
        for track in tracks:
            track.is_missing = True
        for row, column in pairs:
            tracks[row].update(sightings[column], time)
        assigned = {column for _, column in pairs}
        return [sighting for n, sighting in enumerate(sightings) if n not in assigned]

    def _forget(self, time: float) -> None:
        """Forget hands that have been missing for long, and those beyond the most."""
        self._tracks = [track for track in self._tracks if time - track.time <= MISSING_SECONDS]
        by_score = sorted(self._visible, key=lambda track: -track.sighting.score)
        if self._most_hands is not None and len(by_score) > self._most_hands:
            self._tracks = sorted(by_score[: self._most_hands], key=lambda track: track.id)


def _nearest_pairs(
    tracks: Sequence[Track], sightings: Sequence[Sighting], time: float
) -> list[tuple[int, int]]:
    """Return the pairs of a track's and a sighting's index with the smallest sum of distances."""
    if not tracks or not sightings:
        return []
    from scipy.optimize import linear_sum_assignment  # its import takes half a second

    distances = np.array(
        [[track.distance(sighting, time) for sighting in sightings] for track in tracks]
    )
    limits = [_NEAR_MISSING if track.is_missing else _NEAR for track in tracks]
    is_near = distances <= np.array(limits)[:, None]
    rows, columns = linear_sum_assignment(np.where(is_near, distances, _FORBIDDEN))
    pairs = zip(rows.tolist(), columns.tolist())
    return [(row, column) for row, column in pairs if is_near[row, column]]


def nms_sightings(sightings: Sequence[Sighting]) -> list[Sighting]:
    """Return the sightings, most confident first, without those whose hand a better one shows.

    Two hands that cross may have the same box for a moment, so that keypoints are compared.
    """

    def show_same_hand(sighting: Sighting, better: Sighting) -> bool:
        return keypoints_distance(better.keypoints, sighting.keypoints) < _NMS_DISTANCE

    return nms(sorted(sightings, key=lambda sighting: -sighting.score), show_same_hand)


def keypoints_distance(keypoints: np.ndarray, others: np.ndarray) -> float:
    """Return the mean distance of the keypoints of two hands, in longer sides of the first's box.

    Args:
        keypoints: (21, 3) of x, y and confidence.
        others: (21, 3) of the other hand.
    """
    steps = (others - keypoints)[_both_confident(keypoints, others), :2]
    return float(np.linalg.norm(steps, axis=1).mean() / longer_side(keypoints))


def _both_confident(keypoints: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (21,) bool: the keypoints that both hands are sure of, or all where few are."""
    confident = (keypoints[:, 2] > CONFIDENCE_THRESHOLD) & (others[:, 2] > CONFIDENCE_THRESHOLD)
    return confident if confident.sum() >= ENOUGH_KEYPOINTS else np.ones(len(keypoints), bool)


def is_sure(sighting: Sighting) -> bool:
    """Tell whether a sighting is as sure as a hand has to be that was not there before."""
    return sighting.score >= SCORE_THRESHOLD and has_plausible_bones(sighting.keypoints)
