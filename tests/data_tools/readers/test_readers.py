"""Every data set's layout, from its files to an LMDB set; real Caffe trains on two of these."""

import dataclasses
import re

import numpy as np
import pytest

from data_tools import readers
from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.paper import LAST_STAGE, MASK_LOSS_BLOB, stage_loss_blob
from tests.support.commands import log, run
from tests.support.images import encoded
from tests.support.layouts import MAKERS, make_coco, make_freihand
from tests.support.readers import drawn

WITHOUT_MASK = {
    "onehand10k": (0, 0),
    "coco": (1, 0),
    "cmu": (4, 2),
    "rhd": (0, 0),
    "freihand": (0, 2),
}


@pytest.fixture(scope="module", params=MAKERS)
def built(request, tmp_path_factory):
    """A format, a set in it, {set name: {key: keypoints}}, and the LMDB sets made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    samples = {TRAIN: drawn(4, seed=0), VALIDATION: drawn(2, seed=1)}
    samples = {
        name: [dataclasses.replace(sample, key=f"{name}{sample.key}") for sample in split_samples]
        for name, split_samples in samples.items()
    }
    expected = MAKERS[request.param](folder / "set", samples)
    done = run("data_tools.build_lmdb", folder / "set", folder / "lmdb")
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder / "set", expected, folder / "lmdb"


def test_the_format_is_known_by_what_lies_there(built):
    assert readers.detect_format(built[1]) == built[0]


def test_the_lmdb_sets_hold_the_sources_keypoints(built):
    format, _, expected, lmdb = built
    for name, without_mask in zip((TRAIN, VALIDATION), WITHOUT_MASK[format]):
        samples = SampleSet(lmdb / name)
        read = {key.decode()[9:]: samples[index] for index, key in enumerate(samples.keys)}
        assert set(read) == set(expected[name])
        for key, keypoints in expected[name].items():
            assert np.allclose(read[key].keypoints, keypoints, atol=1e-3), key
        assert (
            samples.info()["without_mask"]
            == without_mask
            == sum(sample.mask_png is None for sample in read.values())
        )
        assert samples.info()["reader"] == format


def test_the_lmdb_sets_hold_the_sources_images_and_masks(built):
    """Byte for byte, since each hand fills its image; the masks are those that were drawn."""
    _, _, _, lmdb = built
    originals = {sample.image_bytes: sample for sample in drawn(4, seed=0)}
    originals |= {encoded(sample.image()): sample for sample in drawn(4, seed=0)}  # RHD's
    samples = SampleSet(lmdb / TRAIN)
    for index in range(len(samples)):
        original, mask = originals[samples[index].image_bytes], samples[index].mask()
        assert mask is None or np.mean(mask != original.mask()) < 0.01


@pytest.mark.parametrize("built", ["onehand10k", "cmu"], indirect=True)
def test_caffe_trains_on_lmdb_sets_with_and_without_masks(built, tmp_path):
    format, _, _, lmdb = built
    done = run(
        *("mcc_caffe.train", lmdb / TRAIN, "--out", tmp_path / "run", "--variant", "mini"),
        *("--iterations", 2, "--batch-size", 2, "--interval", 1, "--workers", 1),
    )
    assert done.returncode == 0, done.stderr
    lines = log(tmp_path / "run")
    assert [line["iteration"] for line in lines] == [1, 2]
    for line in lines:
        assert np.isfinite(list(line["losses"].values())).all()
        assert line["losses"][stage_loss_blob(LAST_STAGE)] > 0
        # The mask loss is switched off without masks.
        assert (line["losses"][MASK_LOSS_BLOB] == 0) == (format == "cmu")


def test_what_fits_nothing_is_told_all_formats(tmp_path):
    with pytest.raises(UserError) as error:
        readers.read_dataset(tmp_path)
    for name, module in readers.READERS.items():
        assert f"{name} ({module.LAYOUT})" in str(error.value)


def test_what_fits_two_formats_must_be_chosen(tmp_path):
    samples = {TRAIN: drawn(1, seed=0), VALIDATION: drawn(1, seed=1)}
    make_freihand(tmp_path, samples)
    make_coco(tmp_path, samples)
    with pytest.raises(
        UserError, match="fits several formats, choose one with --format: coco .*; freihand "
    ):
        readers.read_dataset(tmp_path)
    assert list(readers.read_dataset(tmp_path, "coco")) == ["hands_test", "hands_train"]
    assert list(readers.read_dataset(tmp_path, "freihand")) == ["training", "evaluation"]


@pytest.mark.parametrize("splits", ["train", ["train", 1], None, 1])
def test_a_reader_that_gives_no_names_of_splits_is_told(splits, tmp_path, monkeypatch):
    """A text would be read letter by letter."""
    monkeypatch.setattr(readers.onehand10k, "find_splits", lambda root: splits)
    message = f"{tmp_path}: find_splits of the reader onehand10k gives {splits!r}, a list of "
    for format in (readers.AUTO, "onehand10k"):
        with pytest.raises(UserError, match=re.escape(message)):
            readers.read_dataset(tmp_path, format)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["Train", "Test"], ("Train", "Test")),
        (["training", "evaluation"], ("training", "evaluation")),
        (["manual_train", "manual_test"], ("manual_train", "manual_test")),
        (["freihand_test", "freihand_train", "freihand_val"], ("freihand_train", "freihand_val")),
    ],
)
def test_the_sets_own_split_is_found_by_name(names, expected):
    assert readers.choose_original_splits(names) == expected


@pytest.mark.parametrize(
    "names", [["training"], ["synth1", "synth2"], ["a_train", "b_train", "val"], ["Test"]]
)
def test_a_set_without_both_splits_is_told_to_pool(names):
    with pytest.raises(
        UserError, match=f"the set has {' and '.join(names)}, not one split .* --split N/M"
    ):
        readers.choose_original_splits(names)
