"""Sources of samples: mixtures, whose order seed and index decide."""

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.sources import OPENERS, Mixture, absolute_source, mixture_shares, open_source
from mcc_caffe.pack import shorten_source


@pytest.fixture
def mixture_name(two_sets):
    return f"mix:{two_sets / 'train'}*3+{two_sets / 'validation'}*1"


def test_the_name_of_a_mixture_tells_sources_and_shares():
    shares = {"data/a": 0.5, "synth:seed=0&size=224": 0.3, "b*2": 0.2}
    assert mixture_shares("mix:data/a*0.5+synth:seed=0&size=224*0.3+b*2*0.2") == shares
    assert mixture_shares("mix: data/a * 0.5 + synth:seed=0&size=224*0.3 + b*2 *0.2") == shares


@pytest.mark.parametrize("folder", ["a+b", "a*b", "c++ * x", "2+3", "a*2"])
def test_folders_names_and_large_shares_survive_the_way_to_an_absolute_path(
    folder, tmp_path, monkeypatch
):
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    shares = {str(tmp_path / folder / "set"): 1e17, str(tmp_path / folder / "d+e"): 0.5}
    source = absolute_source("mix:set*100000000000000000+d+e*0.5")
    assert mixture_shares(source) == shares
    assert absolute_source(source) == source
    assert mixture_shares(shorten_source(source)) == {f"{folder}/set": 1e17, f"{folder}/d+e": 0.5}


@pytest.mark.parametrize("part", ["a", "a*", "*0.5", "a*b", "a*0", "a*-1", "a*nan", "a*inf", ""])
def test_a_bad_share_is_refused(part):
    with pytest.raises(UserError) as caught:
        mixture_shares(f"mix:good*0.5+{part}")
    assert str(caught.value) == (
        f"{part!r} in 'mix:good*0.5+{part}' is no source with a share above 0: "
        "write mix:A*0.5+B*0.5"
    )


def test_a_mixture_in_a_mixture_is_refused():
    with pytest.raises(UserError, match=r"'mix:mix:a\*1\*1' has a mixture in it: write its"):
        mixture_shares("mix:mix:a*1*1")


def test_a_source_that_comes_twice_is_explained():
    with pytest.raises(UserError, match="names 'a' twice: add its shares up"):
        mixture_shares("mix:a*0.5+b*0.2+a*0.3")


def test_a_missing_source_of_a_mixture_is_named(drawn_set, tmp_path):
    with pytest.raises(UserError, match="none/images/data.mdb was not found"):
        open_source(f"mix:{drawn_set}*0.5+{tmp_path / 'none'}*0.5")


def test_a_further_source_needs_its_line_in_the_table_of_openers_alone(monkeypatch):
    monkeypatch.setitem(OPENERS, "list:", "builtins:list")
    assert open_source("list:ab") == list("list:ab")
    mixture = open_source("mix:list:ab*0.5")
    assert {mixture[index] for index in range(100)} == set("list:ab")
    assert absolute_source("list:ab") == "list:ab"
    assert absolute_source("mix:list:ab*0.5+/set*0.5") == "mix:list:ab*0.5+/set*0.5"
    assert shorten_source("list:/a/b/c") == "list:/a/b/c"


def test_seed_and_index_decide_the_sample(mixture_name):
    forwards, backwards = open_source(mixture_name), open_source(mixture_name)
    keys = [forwards[index].key for index in range(50)]
    assert [backwards[index].key for index in reversed(range(50))] == keys[::-1]
    assert forwards[np.int64(7)].key == keys[7]
    assert [open_source(mixture_name, 1)[index].key for index in range(50)] != keys


def test_the_shares_hold_and_every_sample_comes(mixture_name, two_sets):
    """Of 2000 draws, three quarters come from the first set, within four standard deviations."""
    mixture = open_source(mixture_name)
    assert isinstance(mixture, Mixture)
    keys = [mixture[index].key for index in range(2000)]
    of_train, of_validation = (
        {key.decode() for key in SampleSet(two_sets / split).keys}
        for split in ("train", "validation")
    )
    share = np.mean([key in of_train for key in keys])
    assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 2000)
    assert set(keys) == of_train | of_validation
    counts = np.unique([key for key in keys if key in of_train], return_counts=True)[1]
    assert len(counts) == 6 and np.abs(counts - 250).max() < 4 * np.sqrt(250)  # all alike


def test_a_resumed_training_on_a_mixture_sees_the_same(mixture_name):
    """Windows and colours too are decided by iteration and position."""
    options = {
        "batch_size": 3,
        "input_size": 64,
        "sigma": 1.0,
        "smallest_window": 1.1,
        "largest_window": 2.5,
        "colours": True,
        "strong": True,
    }
    uninterrupted = Loader(LoaderConfig(mixture_name, workers=0, **options))
    for _ in range(4):
        uninterrupted.next_batch()
    with Loader(LoaderConfig(mixture_name, workers=2, first_iteration=4, **options)) as resumed:
        for _ in range(3):
            expected, batch = uninterrupted.next_batch(), resumed.next_batch()
            assert batch.keys == expected.keys
            for name, array in batch.arrays.items():
                np.testing.assert_array_equal(array, expected.arrays[name])


def test_ranks_take_different_samples_of_a_mixture(mixture_name):
    """Rank 1 of 2 goes on where rank 0's batch ends: indices 2 and 3 of iteration 0."""
    mixture = open_source(mixture_name)
    config = LoaderConfig(mixture_name, 2, 64, 1.0, workers=0)
    keys = [Loader(config, rank, 2).next_batch().keys for rank in range(2)]
    assert keys == [[mixture[0].key, mixture[1].key], [mixture[2].key, mixture[3].key]]


def test_another_seed_draws_other_samples_of_a_mixture(mixture_name):
    def keys(seed):
        config = LoaderConfig(mixture_name, 16, 64, 1.0, workers=0, seed=seed)
        return Loader(config).next_batch().keys

    assert keys(0) == keys(0) != keys(1)


@pytest.mark.parametrize("address", ["no_such_module:open", "json:no_such_name"])
def test_an_opener_that_cannot_be_imported_is_told(address, monkeypatch):
    monkeypatch.setitem(OPENERS, "own:", address)
    with pytest.raises(UserError, match=f"own:1: {address}, which opens it, cannot be impor"):
        open_source("own:1")
