"""What the tests share: drawn hands and sets of them, weights, packages, and their settings."""

import logging
import os
import pathlib

import hypothesis
import numpy as np
import pytest

from caffe_build.locate import importable_folder, prefix_of
from mcc_caffe.caffe_io.precision import FLOAT32, PRECISION_VARIABLE
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.commands import OWN_LOGGERS, VERBOSITY_VARIABLE

# Before their imports: else an assertion in them says no values.
pytest.register_assert_rewrite("tests.support", "tests.fuzz")

from tests.support.hands import drawn_sample, write_set  # noqa: E402
from tests.support.packages import Packages, build_packages  # noqa: E402
from tests.support.weights import mini_net, set_random_weights  # noqa: E402

os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ[PRECISION_VARIABLE] = FLOAT32  # the tests' reference
# How long an example takes says nothing on a machine that does other work, too.
hypothesis.settings.register_profile("any load", deadline=None)
hypothesis.settings.load_profile("any load")


@pytest.fixture(autouse=True)
def own_verbosity(monkeypatch):
    """Keep what a test's --quiet leaves in environment and loggers from the tests after it."""
    monkeypatch.setenv(VERBOSITY_VARIABLE, "normal")
    levels = {name: logging.getLogger(name).level for name in OWN_LOGGERS}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def drawn_samples() -> list:
    """Ten drawn hands of two sizes."""
    rng = np.random.default_rng(0)
    return [
        drawn_sample(rng, f"drawn{i}.jpg", *((160, 120) if i % 2 else (100, 140)))
        for i in range(10)
    ]


@pytest.fixture(scope="session")
def drawn_set(drawn_samples, tmp_path_factory) -> pathlib.Path:
    """The ten drawn hands as an LMDB set."""
    return write_set(tmp_path_factory.mktemp("sets") / "drawn", drawn_samples)


@pytest.fixture(scope="session")
def two_sets(drawn_samples, tmp_path_factory) -> pathlib.Path:
    """A folder of LMDB sets: six drawn hands to train on, four to validate."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "train", drawn_samples[:6])
    write_set(folder / "validation", drawn_samples[6:])
    return folder


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> Packages:
    """The wheel and the sdist that are built from the checkout."""
    return build_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def caffe_tool() -> pathlib.Path:
    """The stock tool `caffe` of the Caffe in use."""
    tool = prefix_of(importable_folder()) / "bin/caffe"
    if not tool.is_file():
        pytest.skip(f"the Caffe in use has no {tool}")
    return tool


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Random weights of the mini net."""
    import_caffe().set_mode_cpu()
    net = mini_net()
    set_random_weights(net)
    path = tmp_path_factory.mktemp("weights") / "random.caffemodel"
    net.save(str(path))
    return path
