"""Some mutated files for each reader; `make fuzz` tries a thousand of each."""

import collections
import re

import numpy as np
import pytest

from tests.fuzz.parts import PARTS
from tests.fuzz.runner import BAD, READ, REFUSED, Process
from tests.support.commands import refusal, run

MANY = 15
# Of a prototxt each try starts a process and runs a net. The decoders and Caffe, which would abort
# or take what memory they are told to, get more tries.
COUNTS = {
    **dict.fromkeys(("solver", "net", "deploy"), 3),
    **dict.fromkeys(("lmdb", "video"), 60),
    "log": 150,
    **dict.fromkeys(("caffemodel", "solverstate", "packed", "image"), 300),
}
# The first two keep no files. The others fork, which a process in which Caffe has run must not.
NOT_HERE = ("lmdb", "data-layer", "solver", "net", "deploy")


@pytest.fixture(scope="module")
def process():
    process = Process()
    yield process
    process.end()


@pytest.mark.parametrize("part", PARTS)
def test_mutated_files_are_read_or_refused_in_a_line(part, process):
    outcomes = [process.ask(part, 0, number) for number in range(COUNTS.get(part, MANY))]
    assert [outcome for outcome in outcomes if outcome.verdict == BAD] == []
    if len(outcomes) > MANY:
        assert {outcome.verdict for outcome in outcomes} == {READ, REFUSED}


@pytest.mark.parametrize("part", [part for part in PARTS if part not in NOT_HERE])
def test_files_that_are_not_mutated_are_read(part, tmp_path):
    """Else a mutation of them would show nothing."""
    reader = PARTS[part].make(tmp_path)
    contents = reader.files.contents
    reader.files.mutations = dict.fromkeys(contents, lambda content, _: content)
    for path, content in contents.items():
        reader.files.contents = {path: content}
        assert not list(reader.attempt(np.random.default_rng(0))), path


# Unprintable and long values in messages, 4 GiB for a chunk of a PNG, infinite keypoints, numbers
# that no float holds, a damaged HDF5 file. Where `mutations` changes, other files come of them.
@pytest.mark.parametrize(
    "seed, part, number",
    [
        *((0, "data-layer", 13), (0, "packed", 302), (0, "coco", 458), (0, "rhd", 642)),
        *((0, "mask", 643), (0, "predictions", 368), (0, "results", 123), (0, "results", 240)),
        *((0, "results", 706), (0, "results", 811), (0, "coco-results", 2)),
        *((0, "coco-results", 22), (0, "deploy", 781), (0, "deploy", 892), (1, "results", 647)),
        *((1, "results", 669), (1, "results", 1046), (1, "own-results", 650)),
    ],
)
def test_tries_that_ended_badly_once(seed, part, number, process):
    outcome = process.ask(part, seed, number)
    assert outcome.verdict == REFUSED, outcome


def test_another_process_goes_on_after_a_bad_ending(process):
    outcome = process.ask("no reader", 0, 0)
    assert outcome.verdict == BAD and "exit code 1: " in outcome.text and "KeyError" in outcome.text
    assert process.ask("coco", 0, 0).verdict != BAD


def test_the_command_counts_how_tries_end_and_repeats_a_single_one(process):
    expected = [process.ask("coco", 1, number) for number in range(8)]
    verdicts = collections.Counter(outcome.verdict for outcome in expected)
    assert verdicts[READ] and verdicts[REFUSED]
    done = run("tests.fuzz", "--seed", 1, "--count", 8, "coco", "--quiet")
    counts = f"| 8 | {verdicts[READ]} | {verdicts[REFUSED]} | 0 |"
    assert done.returncode == 0 and counts in done.stdout.splitlines()[-1], done.stderr
    number = max(outcome.number for outcome in expected if outcome.verdict == REFUSED)
    done = run("tests.fuzz", "--seed", 1, "--only", number, "coco", "--quiet")
    table, outcome = done.stdout.splitlines()[-2:]
    assert done.returncode == 0 and "| 1 | 0 | 1 | 0 |" in table
    # Each process has a folder of its own.
    own_folder = re.compile(r"mcc-fuzz-\w+")
    assert own_folder.sub("", outcome) == own_folder.sub("", repr(expected[number]))


def test_a_reader_that_is_not_there_is_named():
    done = run("tests.fuzz", "--count", 1, "cocoa")
    assert "there is no reader cocoa: give some of coco," in refusal(done)


def test_the_number_of_a_try_is_at_least_0():
    done = run("tests.fuzz", "--only", -1, "coco")
    assert "argument --only: -1 is below 0" in refusal(done)
