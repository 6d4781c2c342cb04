"""How far a peer's arrays are from Caffe's."""

import math

import numpy as np
import pytest

from benchmarks import network, training
from benchmarks.peers.differences import largest_difference, relative_difference

EXPECTED = (np.array([3.0, 4.0]), np.array([1.0]))


@pytest.mark.parametrize(
    "outputs, largest",
    [
        (EXPECTED, 0),
        ((np.array([3.0, 3.5]), np.array([1.1])), 0.5),
        ((np.array([3.0, np.nan]), np.array([1.0])), math.inf),
        ((np.array([3.0, 4.0]), np.array([np.nan])), math.inf),
        ((np.array([3.0, 4.0]), np.array([np.inf])), math.inf),
        ((np.array([3.0]), np.array([1.0])), math.inf),
    ],
)
def test_the_largest_difference_is_infinite_where_a_value_is_no_number(outputs, largest):
    assert largest_difference(outputs, EXPECTED) == largest


@pytest.mark.parametrize(
    "values, expected, difference",
    [
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 1e-9], [0.0, 0.0], math.inf),
        ([np.nan, 4.0], [3.0, 4.0], math.inf),
        ([3.0, 4.0], [np.nan, 4.0], math.inf),
    ],
)
def test_the_difference_as_a_share(values, expected, difference):
    assert relative_difference(np.array(values), np.array(expected)) == pytest.approx(difference)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_no_agreement(number, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "ask", lambda *words, **options: {"difference": number})
    (row,) = network.measure("mini", "caffe", tmp_path, batch=1, least=1, seconds=0)
    assert row["status"].startswith("differs from Caffe by")
    row = {"loss_difference": 0.0, "gradient_difference": number}
    assert training.disagreement(row)["status"].startswith("differs from Caffe: loss by 0")
