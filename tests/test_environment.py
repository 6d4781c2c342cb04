"""Commands on unusual machines: without a home folder, and with names that are not UTF-8."""

import os

import pytest

from mcc_caffe.data.samples import SampleSet
from tests.support.commands import refusal, run
from tests.support.hands import hand, write_layout

# A user who is in no list of users, as in a container that was started with `--user 12345`.
NO_SUCH_USER = """
import pwd

def nobody(*_):
    raise KeyError("there is no such user")

pwd.getpwuid = pwd.getpwnam = nobody
"""


@pytest.fixture
def nowhere(tmp_path):
    """The environment of a user without a home folder and without an entry in passwd."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(NO_SUCH_USER)
    other_variables = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "USER")
    }
    return {
        **other_variables,
        "PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}",
    }


def drawn_layout(folder):
    return write_layout(folder, {"Train": [hand(k) for k in (1, 2, 3)], "Test": [hand(4)]})


def test_without_a_home_folder_everything_works_but_builds(nowhere, tmp_path):
    source = drawn_layout(tmp_path / "set")
    for command in (
        ("mcc_caffe.evaluate", source, "--levels", 1, "--limit", 1, "--out", tmp_path / "eval"),
        ("data_tools.build_lmdb", source, tmp_path / "lmdb"),
        ("mcc_caffe.train", tmp_path / "lmdb/train", "--out", tmp_path / "run", "--iterations", 1,
         "--batch-size", 2, "--workers", 0, "--interval", 1),
    ):  # fmt: skip
        done = run(*command, env=nowhere)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    done = run("mcc_caffe.doctor", env=nowhere)
    assert "Traceback" not in done.stderr
    assert "the user has no home folder for the cache of builds: set HOME or" in done.stdout


def test_names_that_are_not_utf_8_pass_through_every_command(tmp_path):
    """Bytes that no text has, in the names of folders and images; stdout admits text only."""
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    os.mkdir(strange)
    os.rename(drawn_layout(tmp_path / "set"), f"{strange}/set")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for command in (
        ("data_tools.build_lmdb", f"{strange}/set", f"{strange}/lmdb"),
        ("data_tools.inspect", f"{strange}/lmdb", "--out", f"{strange}/sheet.png"),
        ("mcc_caffe.evaluate", f"{strange}/set", "--levels", 1, "--limit", 1, "--processes", 1,
         "--out", f"{strange}/eval"),
        ("mcc_caffe.train", f"{strange}/lmdb/train", "--out", tmp_path / "run", "--iterations", 1,
         "--batch-size", 2, "--workers", 0, "--interval", 1),
    ):  # fmt: skip
        done = run(*command, env=environment)
        assert done.returncode == 0, (command, done.stderr)
    done = run("mcc_caffe.train", f"{strange}/lmdb/train", "--out", f"{strange}/run")
    assert "is not UTF-8, as Caffe's files need it: give another folder" in refusal(done)
    assert len(SampleSet(f"{strange}/lmdb/train")) == 3
