"""Hands followed from frame to frame, in a small world that stands for the net."""

import numpy as np
import pytest

from mcc_caffe.inference.looks import keypoints_box
from mcc_caffe.inference.tracking import (
    IDLE_SEARCH_INTERVAL,
    SEARCH_INTERVAL,
    Sighting,
    Track,
    Tracks,
    is_sure,
    keypoints_distance,
    nms_sightings,
)
from tests.support.hands import hand

FPS = 25
SHAPE = hand(3).keypoints[:, :2] - hand(3).keypoints[:, :2].mean(axis=0)  # about 100 pixels
SIDE = np.ptp(SHAPE, axis=0).max()


def keypoints(x, y, *, confidence=0.8, mirrored=False):
    """A hand of about 100 pixels around (x, y)."""
    shape = SHAPE * (-1, 1) if mirrored else SHAPE
    return np.column_stack([shape + (x, y), np.full(21, confidence)])


class World:
    """Hands at known positions; a look sees the nearest hand that is not hidden."""

    def __init__(self, **options):
        self.tracks = Tracks(**options)
        self.frame, self.looks, self.searches = 0, 0, []

    def show(self, *hands):
        """Show the next frame, of these keypoints; return {id: index of the hand}."""

        def look(expected):
            self.looks += len(expected)
            nothing = Sighting(keypoints(-999, -999, confidence=0.01), None)
            sightings = []
            for box in map(keypoints_box, expected):
                middle = (box[:2] + box[2:]) / 2
                offsets = [np.abs(points[:, :2].mean(axis=0) - middle) for points in hands]
                near = [n for n, offset in enumerate(offsets) if offset.max() < 0.6 * SIDE]
                nearest = min(near, key=lambda n: offsets[n].max(), default=None)
                sightings.append(nothing if nearest is None else Sighting(hands[nearest], nearest))
            return sightings

        def search(known):
            self.searches.append(self.frame)
            return [
                Sighting(points, n) for n, points in enumerate(hands) if is_sure(Sighting(points))
            ]

        self.frame += 1
        followed = self.tracks.update(self.frame / FPS, look, search)
        return {track.id: track.sighting.payload for track in followed}


def test_hands_keep_their_ids_and_a_new_one_gets_a_new_id():
    world = World()
    for n in range(60):
        hands = [keypoints(100 + 4 * n, 100), keypoints(500 - 3 * n, 400)]
        if n >= 20:
            hands.append(keypoints(900, 100))
        followed = world.show(*hands)
        assert followed[1] == 0 and followed[2] == 1
    assert followed[3] == 2 and set(followed) == {1, 2, 3}
    assert world.searches == [1, 31] and SEARCH_INTERVAL == 30


def test_a_followed_hand_that_a_search_gives_again_is_no_new_hand():
    tracks, hands = Tracks(), [Sighting(keypoints(100, 100))]
    for n in range(SEARCH_INTERVAL + 1):
        followed = tracks.update(n / FPS, lambda expected: hands[: len(expected)], lambda _: hands)
    assert [track.id for track in followed] == [1]


def test_a_frame_without_hands_is_searched_more_often():
    world = World()
    for _ in range(21):
        assert world.show() == {}
    assert world.searches == [1, 11, 21] and IDLE_SEARCH_INTERVAL == 10
    every_frame = World(idle_search_interval=1)
    for _ in range(4):
        every_frame.show()
    assert len(every_frame.searches) == 4


@pytest.mark.parametrize("frames_before", [0, 5])
def test_a_search_that_fails_is_made_again_in_the_next_frame(frames_before):
    world = World()
    for _ in range(frames_before):
        world.show(keypoints(100, 100))

    def see_nothing(expected):
        return [Sighting(keypoints(-999, -999, confidence=0.01)) for _ in expected]

    def fail(known):
        raise MemoryError

    with pytest.raises(MemoryError):
        world.tracks.update((frames_before + 0.5) / FPS, see_nothing, fail)
    assert world.show(keypoints(500, 400)) == {1 + bool(frames_before): 0}


def test_a_lost_hand_is_searched_for_and_comes_back_with_its_id():
    world = World()
    for n in range(5):
        assert set(world.show(keypoints(100 + 10 * n, 100))) == {1}
    for _ in range(10):
        assert world.show() == {}
    assert world.searches == [1, 6]
    assert world.show(keypoints(250, 100)) == {1: 0}  # in between it moved on
    for _ in range(FPS + 2):  # for longer than a second
        world.show()
    looks = world.looks
    world.show()
    assert world.looks == looks  # it is forgotten
    for _ in range(IDLE_SEARCH_INTERVAL):
        followed = world.show(keypoints(250, 100))
    assert followed == {2: 0}


def test_a_hand_that_comes_back_elsewhere_is_another():
    world = World()
    world.show(keypoints(100, 100))
    world.show()
    for _ in range(IDLE_SEARCH_INTERVAL):
        followed = world.show(keypoints(600, 400))
    assert followed == {2: 0}


@pytest.mark.parametrize(
    "is_missing, sides, is_same",
    [(False, 0.65, True), (False, 0.85, False), (True, 0.85, True), (True, 1.1, False)],
)
def test_a_missing_hand_may_come_back_further_away(is_missing, sides, is_same):
    """A look's answer at .85 sides of the box is too far for a hand of the frame before."""
    tracks = Tracks()
    tracks.update(0, lambda _: [], lambda _: [Sighting(keypoints(100, 100))])
    if is_missing:
        tracks.update(1 / FPS, lambda _: [], lambda _: [])
    answer = Sighting(keypoints(100 + sides * SIDE, 100))
    followed = tracks.update(2 / FPS, lambda _: [answer], lambda _: [])
    assert [track.id for track in followed] == [1] * is_same


def test_a_hand_is_waited_for_during_a_second():
    tracks, sightings = Tracks(), [Sighting(keypoints(100, 100))]
    tracks.update(0, lambda _: [], lambda _: sightings)
    assert tracks.update(0.96, lambda _: [], lambda _: []) == [] and tracks.ids == [1]
    followed = tracks.update(1, lambda _: sightings, lambda _: [])
    assert [track.id for track in followed] == [1]


@pytest.mark.parametrize("is_missing", [False, True])
def test_an_unsure_hand_that_a_search_finds_where_it_was_is_no_new_one(is_missing):
    """The search is told of the sure hands alone."""
    tracks, known_boxes = Tracks(idle_search_interval=1), []
    unsure = Sighting(keypoints(100, 100, confidence=0.8 if is_missing else 0.2))
    sure = Sighting(keypoints(500, 100))
    tracks.update(0, lambda _: [], lambda _: [unsure, sure])

    def search(known):
        known_boxes.append([box.tolist() for box in known])
        return [unsure]

    for n in range(1, SEARCH_INTERVAL + 1):
        answers = [sure] if is_missing and n == 1 else [unsure, sure]
        followed = tracks.update(n / FPS, lambda _, answers=answers: answers, search)
    assert known_boxes == [[sure.box.tolist()]] and [track.id for track in followed] == [1, 2]


def test_an_answer_is_of_the_hand_that_it_is_nearest_to():
    """Also where one hand is far from all answers, which come most confident first."""
    first, other = keypoints(100, 100), keypoints(100 + 0.6 * SIDE, 100)
    near_first, near_other = first + (0.1 * SIDE, 0, 0), other + (0.05 * SIDE, 0, 0.1)
    for answers in ([near_first, near_other], [near_first, first - (10 * SIDE, 0, 0)]):
        tracks = Tracks()
        tracks.update(0, lambda _: [], lambda _: [Sighting(first), Sighting(other)])
        sightings = [Sighting(points, n) for n, points in enumerate(answers)]
        followed = tracks.update(1 / FPS, lambda _, given=sightings: given, lambda _: [])
        assert followed[0].id == 1 and followed[0].sighting.payload == 0
        assert [track.id for track in followed] == ([1, 2] if answers[1] is near_other else [1])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("hides", [False, True])
def test_ids_are_not_swapped_where_two_hands_cross(mirrored, hides):
    """Two hands pass each other, 240 pixels a second each; the one in front may hide the other."""
    world = World()
    for n in range(70):
        first = keypoints(100 + 480 / FPS * n / 2, 200)
        other = keypoints(772 - 480 / FPS * n / 2, 240, mirrored=mirrored)
        is_hidden = hides and abs(first[:, 0].mean() - other[:, 0].mean()) < 0.5 * SIDE
        followed = world.show(first) if is_hidden else world.show(first, other)
        assert followed == ({1: 0} if is_hidden else {1: 0, 2: 1}), n


def test_the_most_hands_are_the_most_confident():
    world = World(most_hands=1, idle_search_interval=1)
    weak, sure = keypoints(100, 100, confidence=0.4), keypoints(500, 300, confidence=0.9)
    assert world.show(weak) == {1: 0}
    for _ in range(SEARCH_INTERVAL):
        followed = world.show(weak, sure)
    assert followed == {2: 1} and world.show(weak, sure) == {2: 1}
    three = [
        keypoints(x, 100, confidence=score) for x, score in ((100, 0.5), (400, 0.7), (700, 0.9))
    ]
    assert list(World(most_hands=2).show(*three)) == [2, 3]


def test_a_hand_that_takes_the_place_of_a_missing_one_does_not_make_it_forgotten():
    world = World(most_hands=1, idle_search_interval=1)
    sure, weak = keypoints(100, 100, confidence=0.9), keypoints(500, 300, confidence=0.5)
    assert world.show(sure) == {1: 0}
    assert world.show(weak) == {2: 0}
    assert world.show(weak, sure) == {1: 1}


def test_a_followed_hand_may_be_less_sure_than_a_new_one():
    world = World()
    assert world.show(keypoints(100, 100, confidence=0.3)) == {}
    world = World()
    world.show(keypoints(100, 100))
    assert world.show(keypoints(100, 100, confidence=0.3)) == {1: 0}
    torn = keypoints(100, 100)
    torn[8, :2] += 200
    assert world.show(torn) == {1: 0}
    assert world.show(keypoints(100, 100, confidence=0.24)) == {}
    assert world.show(torn) == {}  # it is no longer followed


def test_a_weakly_followed_hand_has_to_be_found_again_by_each_search():
    """The box head finds what a look is hardly sure of; without it the track would never end."""
    world = World()
    weak = keypoints(100, 100, confidence=0.2)
    world.tracks.update(0, lambda boxes: [], lambda known: [Sighting(weak, 0)])
    for _ in range(SEARCH_INTERVAL - 1):
        assert world.show(weak) == {1: 0}
    assert world.show(weak) == {}  # this frame is searched, and the search finds nothing


@pytest.mark.parametrize("score, is_followed", [(0.13, True), (0.11, False)])
def test_a_hand_is_followed_above_a_share_of_the_score_that_it_was_found_with(score, is_followed):
    """Three fifths, where the box head found what a look is hardly sure of."""
    world = World()
    weak = keypoints(100, 100, confidence=0.2)
    world.tracks.update(0, lambda _: [], lambda _: [Sighting(weak)])
    assert world.show(keypoints(100, 100, confidence=score)) == ({1: 0} if is_followed else {})


def test_a_hand_is_expected_where_its_velocity_takes_it():
    track = Track(1, Sighting(keypoints(0, 0)), 0.0, np.zeros(2))
    for n in range(1, 26):
        track.update(Sighting(keypoints(5 * n, 0)), n / FPS)
    assert track.velocity == pytest.approx([125, 0], rel=0.01)
    assert keypoints_distance(track.expected_keypoints(1.2), keypoints(150, 0)) < 0.01
    far = track.expected_keypoints(99)[:, 0].mean() - track.sighting.keypoints[:, 0].mean()
    assert far == pytest.approx(62.5, rel=0.01)  # it coasts for half a second
    track.update(Sighting(keypoints(125, 0)), 1.0)  # a stream whose time stands still
    assert np.isfinite(track.velocity).all()


def test_a_missing_hand_may_have_stopped():
    track = Track(1, Sighting(keypoints(0, 0)), 0.0, np.array([2000.0, 0]), is_missing=True)
    assert track.distance(Sighting(keypoints(0, 0)), 0.5) == 0
    assert track.distance(Sighting(keypoints(1000, 0)), 0.5) == pytest.approx(0)
    track.is_missing = False
    assert track.distance(Sighting(keypoints(0, 0)), 0.5) == pytest.approx(1000 / SIDE)


def test_the_velocity_is_averaged_over_a_tenth_of_a_second():
    """5 pixels in 0.04 s are 125 a second; a keypoint and 11 unsure ones that jump do not count."""
    for unsure in (0, 11):
        track = Track(1, Sighting(keypoints(0, 0)), 0.0, np.zeros(2))
        moved = keypoints(5, 0)
        moved[:unsure] += 400, 0, -0.7
        moved[20] += 400, 0, 0
        track.update(Sighting(moved), 1 / FPS)
        assert track.velocity == pytest.approx([125 * (1 - np.exp(-0.4)), 0])


@pytest.mark.parametrize("score", [0.8, 0.5])
def test_the_velocity_of_a_hand_that_is_being_covered_stays(score):
    """Its keypoints slide off to the part that is still seen, and its score sinks."""
    track = Track(1, Sighting(keypoints(100, 100)), 0.0, np.zeros(2))
    for n in range(1, 16):
        track.update(Sighting(keypoints(100 + 8 * n, 100, confidence=0.8)), n / FPS)
    velocity = track.velocity.tolist()
    for n in range(16, 20):
        track.update(Sighting(keypoints(220, 100, confidence=score)), n / FPS)
    assert (track.velocity.tolist() == velocity) == (score == 0.5)
    for n in range(20, 50):  # a hand that stays less sure is not covered
        track.update(Sighting(keypoints(220, 100, confidence=score)), n / FPS)
    assert np.abs(track.velocity).max() < 1


@pytest.mark.parametrize("score, counts", [(0.7, True), (0.65, False)])
def test_a_hand_that_is_a_little_less_sure_has_a_velocity(score, counts):
    """The best score, .8, has sunk to .74 after 0.04 s; nine tenths of it are .66."""
    track = Track(1, Sighting(keypoints(0, 0)), 0.0, np.zeros(2), best_score=0.8)
    track.update(Sighting(keypoints(5, 0, confidence=score)), 1 / FPS)
    assert track.velocity.any() == counts


def test_the_score_is_the_mean_confidence_of_all_keypoints():
    points = keypoints(0, 0)
    points[:, 2] = [0.9] * 14 + [0.0] * 7
    assert Sighting(points).score == pytest.approx(0.6)


def test_distances_count_in_sides_of_the_box():
    first, second = keypoints(0, 0), keypoints(30, 40)
    assert keypoints_distance(first, second) == pytest.approx(50 / SIDE)
    second[5] = 900, 900, 0.1  # keypoints of which either hand is unsure do not count
    first[6] = -900, 900, 0.1
    assert keypoints_distance(first, second) == pytest.approx(50 / SIDE)
    twice = first * (2, 2, 1)
    of_first, of_twice = keypoints_distance(first, twice), keypoints_distance(twice, first)
    assert of_first == pytest.approx(2 * of_twice)  # of the first hand's box


def test_of_sightings_of_one_hand_the_most_confident_stays():
    sightings = [
        Sighting(keypoints(100, 100, confidence=0.5), "weak"),
        Sighting(keypoints(100 + 0.2 * SIDE, 100, confidence=0.9), "sure"),
        Sighting(keypoints(100, 100, mirrored=True), "another hand at the same place"),
    ]
    answers = [sighting.payload for sighting in nms_sightings(sightings)]
    assert answers == ["sure", "another hand at the same place"]
