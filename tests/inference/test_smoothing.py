"""The One-Euro filter: still and moving keypoints, any frame rate, missing keypoints."""

import numpy as np
import pytest

from mcc_caffe.inference.smoothing import FilterParameters, KeypointFilter

ALL = np.ones(21, bool)
DEFAULTS = FilterParameters()


def through(values, times, *, parameters=DEFAULTS, side=100.0):
    """Filter keypoints that all are so far along a slanted line; return how far keypoint 0 is."""
    keypoint_filter, direction = KeypointFilter(parameters), np.array([0.6, 0.8])
    points = [np.tile(value * direction, (21, 1)) for value in values]
    smoothed = [
        keypoint_filter.smooth(point, ALL, time=time, side=side)
        for point, time in zip(points, times)
    ]
    assert all((frame == frame[0]).all() for frame in smoothed)
    return np.array([frame[0] @ direction for frame in smoothed])


def test_a_constant_stays_what_it_is():
    assert through([7.5] * 9, np.arange(9) / 30) == pytest.approx([7.5] * 9)


def test_hand_computed_values():
    """Frames 0.5 s apart, cutoffs of 1 / pi Hz: the weight of a new value is then 1 / 2.

    After 0, 10, 10 with beta 0: 0, 5, 7.5. With beta 1 / (10 pi) and a box of 1 pixel, the speed at
    the second frame is 20 pixels a second, smoothed to 10, and the cutoff 2 / pi: the weight is
    2 / 3. At the third the speed is 0, smoothed to 5, the cutoff 1.5 / pi, the weight 3 / 5.
    """
    times, parameters = [0, 0.5, 1], FilterParameters(1 / np.pi, 0, 1 / np.pi)
    assert through([0, 10, 10], times, parameters=parameters) == pytest.approx([0, 5, 7.5])
    fast = parameters._replace(beta=1 / (10 * np.pi))
    assert through([0, 10, 10], times, parameters=fast, side=1) == pytest.approx(
        [0, 20 / 3, 20 / 3 + 3 / 5 * 10 / 3]
    )


def test_a_step_is_followed_the_faster_the_higher_beta_is():
    times, values = np.arange(30) / 30, [0.0] + [50.0] * 29
    slow, fast = (
        through(values, times, parameters=FilterParameters(beta=beta)) for beta in (0.0, 4.0)
    )
    assert (np.diff(slow) > 0).all() and slow[-1] == pytest.approx(50, rel=0.01)
    assert (fast[1:] > slow[1:]).all() and (fast <= 50).all()
    # A cutoff of 1 Hz goes 1 - 1 / e of the way in 1 / (2 pi) s, that is, 4.8 frames.
    assert abs(int((slow > 50 * (1 - 1 / np.e)).argmax()) - 5) <= 1


def test_the_frame_rate_makes_little_difference():
    """The same movement at 24, 60 and 500 frames a second, and at steps that vary."""
    varied = np.cumsum(np.random.default_rng(0).uniform(0.005, 0.05, 100))
    ends = []
    even = (np.arange(0, 1.01, 1 / fps) for fps in (24, 60, 500))
    for times in (*even, varied[varied < 1.001]):
        times = np.append(times[times < 1], 1.0)
        ends.append(through(80 * times**2, times)[-1])
    assert np.ptp(ends) < 0.02 * 80, ends


def test_resolution_makes_no_difference():
    times, values = np.arange(20) / 30, np.random.default_rng(0).normal(0, 5, 20).cumsum()
    small, large = through(values, times, side=50), through(8 * values, times, side=400)
    assert large == pytest.approx(8 * small)


def test_a_still_hand_jitters_less_and_a_moving_one_hardly_lags():
    rng, times = np.random.default_rng(0), np.arange(300) / 30
    noise = rng.normal(0, 1, 300)  # of 1 % of the box's side
    assert through(noise, times)[30:].std() < 0.5 * noise.std()
    moving = through(150 * times, times)  # 1.5 sides a second
    lag = (150 * times - moving)[60:].mean() / 150
    assert lag < 1 / 30


def test_a_missing_keypoint_is_returned_as_it_is_and_the_past_counts_less_after_it():
    frames = {}
    for gap in (1, 15):
        keypoint_filter, present = KeypointFilter(DEFAULTS), ALL.copy()
        keypoint_filter.smooth(np.zeros((21, 2)), ALL, time=0, side=1000)
        present[3] = False
        wild = np.full((21, 2), 77.0)
        for frame in range(1, gap):
            given = np.where(present[:, None], 0, wild)
            smoothed = keypoint_filter.smooth(given, present, time=frame / 30, side=1000)
            assert (smoothed[3] == 77).all() and (smoothed[:3] == 0).all()
        frames[gap] = keypoint_filter.smooth(np.full((21, 2), 10.0), ALL, time=gap / 30, side=1000)
        directly = KeypointFilter(DEFAULTS)  # without the frames that lack the keypoint
        directly.smooth(np.zeros((21, 2)), ALL, time=0, side=1000)
        expected = directly.smooth(np.full((21, 2), 10.0), ALL, time=gap / 30, side=1000)
        assert frames[gap][3] == pytest.approx(expected[3])
    assert frames[15][3, 0] > 7 > 3 > frames[1][3, 0]
    assert frames[15][4, 0] == pytest.approx(frames[1][4, 0])


def test_times_that_do_not_grow_are_no_division_by_zero():
    assert np.isfinite(through([0, 10, 20, 10], [1, 1, 0.5, 0.5])).all()
