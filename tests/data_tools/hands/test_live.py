"""Training on hands that are rendered meanwhile."""

import numpy as np
import pytest

from data_tools.hands.live import LiveHands
from data_tools.hands.synthetic_image import ImageOptions, render_image
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from tests.support.commands import log, run

SOURCE = "synth:seed=3&size=96"


def test_it_renders_what_synth_would(tmp_path):
    options = ImageOptions(
        seed=3,
        size=96,
        min_fill=0.2,
        max_roll=180.0,
        common=0.4,
        held=0.25,
        people=0.25,
        easy=False,
    )
    jpeg, mask_png, truth = render_image("Train", 6, options)
    sample = LiveHands(SOURCE)[5]
    assert (sample.image_bytes, sample.mask_png) == (jpeg, mask_png)
    assert sample.key == "Train_6.jpg"
    for (x, y, state), keypoint in zip(truth["joints"], sample.keypoints):
        expected = (x, y, 1) if state in ("visible", "self") else (-1, -1, 0)
        np.testing.assert_allclose(keypoint, expected, atol=1e-3)


def test_the_loader_never_sees_an_image_twice_and_the_workers_do_not_matter():
    config = dict(source=SOURCE, batch_size=2, input_size=64, sigma=1.0, seed=1)
    runs = []
    for workers in (0, 2):
        with Loader(LoaderConfig(**config, workers=workers)) as loader:
            runs.append(
                [
                    (keys, arrays["data"].copy())
                    for arrays, keys in (loader.next_batch() for _ in range(3))
                ]
            )
    assert [keys for keys, _ in runs[0]] == [
        [f"Train_{2 * i + 1}.jpg", f"Train_{2 * i + 2}.jpg"] for i in range(3)
    ]
    for (keys_alone, data_alone), (keys_shared, data_shared) in zip(*runs):
        assert keys_alone == keys_shared
        np.testing.assert_array_equal(data_alone, data_shared)


def test_ranks_take_other_images():
    config = LoaderConfig(source=SOURCE, batch_size=2, input_size=64, sigma=1.0, workers=0)
    keys = []
    for rank in range(2):
        with Loader(config, rank, 2) as loader:
            keys += [
                key
                for _, batch_keys in (loader.next_batch() for _ in range(2))
                for key in batch_keys
            ]
    assert len(set(keys)) == 8


def test_training_on_it(tmp_path):
    done = run(
        *("mcc_caffe.train", SOURCE, "--out", tmp_path / "run", "--iterations", 2),
        *("--batch-size", 2, "--interval", 1),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = log(tmp_path / "run")
    assert [line["iteration"] for line in lines] == [1, 2] and all(
        np.isfinite(line["loss"]) for line in lines
    )


@pytest.mark.parametrize(
    "source, words",
    [
        ("synth:sede=3", "'sede' is not known"),
        ("synth:seed=three", "seed, size and easy are whole numbers, min_fill, max_roll, "),
        ("synth:seed=4294967296", "seed is 4294967296, it must be from 0 to 4294967295"),
        ("synth:seed=0&size=96&seed=9", "names 'seed' twice: leave one of them out"),
        ("synth:size=10", "size is 10, it must be from 64"),
        ("synth:min_fill=2", "min_fill is 2.0"),
        ("synth:split=Validation", "must be Train or Test"),
    ],
)
def test_a_wrong_source_is_refused(source, words):
    with pytest.raises(UserError, match=words):
        LiveHands(source)
