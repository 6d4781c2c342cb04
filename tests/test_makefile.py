"""What the user gives to make is data: no space splits it, and nothing in it is executed."""

import os
import re
import shlex
import shutil

import pytest

from tests.support.commands import ROOT, run_program

# Stands for .venv/bin/python: it writes the words that a command gets, each with a NUL behind it.
RECORDER = "#!/bin/sh\nprintf '%s\\0' \"$@\" -- >> words.txt\n"
# What a shell or make would execute if it took the text for its own.
COMMANDS_IN_TEXT = [
    "a;touch X;.jpg", "$(shell touch X)", "$(touch X)", "$$(touch X)", "`touch X`", "a|touch X",
    '"; touch X; "', "'; touch X; '", "a\ntouch X", "a[$(touch X)]", "& touch X &", "#", "\\",
]  # fmt: skip
VARIABLES = next(
    line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("GIVEN :=")
).split()[2:]


@pytest.fixture
def folder(tmp_path):
    """A folder with the Makefile and commands that only write what they are given."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (".venv/bin/python", "caffe_build/setup.sh"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(RECORDER if "python" in name else "#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


def recorded(folder):
    """The words of each command that make has run, without the `-m` before them."""
    path = folder / "words.txt"
    calls = [[]]
    for word in path.read_text().split("\0")[:-1] if path.exists() else []:
        if word == "--":
            calls.append([])
        else:
            calls[-1].append(word)
    return [call[1:] for call in calls[:-1]]


def commands(folder, *arguments):
    """Run make; return how it ended and the words of each command but the one that builds."""
    # `make test` itself exports the variables of its own call.
    environment = {
        name: value
        for name, value in os.environ.items()
        if "MAKE" not in name and name not in VARIABLES
    }
    done = run_program("make", *arguments, cwd=folder, env=environment)
    return done, [words for words in recorded(folder) if words[0] != "caffe_build"]


def test_spaces_do_not_split_paths(folder):
    (folder / "my set").mkdir()
    done, (build,) = commands(folder, "lmdb", "SOURCE=my set", "DATA=out here")
    assert done.returncode == 0 and build == ["data_tools.build_lmdb", "my set", "out here"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["check", "SET=my set"], ["data_tools.check", "my set"]),
        (["check", "DATA=my set"], ["data_tools.check", "my set"]),
        (
            ["teach", "PHOTOS=my set", "WEIGHTS=a b.npz"],
            [
                *("data_tools.teach", "my set", "data/taught", "--variant", "mini"),
                *("--weights", "a b.npz"),
            ],
        ),
        (
            ["teach", "PHOTOS=*.jpg 'b c.png'", "TAUGHT=out here", "ARGS=--teacher mediapipe"],
            [
                *("data_tools.teach", "*.jpg", "b c.png", "out here", "--variant", "mini"),
                *("--teacher", "mediapipe"),
            ],
        ),
        (
            ["inspect", "SET='my other set' b", "VARIANT=paper"],
            ["data_tools.inspect", "my other set", "b", "--variant", "paper"],
        ),
        (
            ["web", "WEIGHTS=a b.npz", "ARGS=label photos"],
            ["mcc_caffe.web", "--variant", "mini", "--weights", "a b.npz", "label", "photos"],
        ),
        (["doctor", "ARGS=--json"], ["mcc_caffe.doctor", "--json"]),
        (["demo", "ARGS=--images 30"], ["mcc_caffe.demo", "--images", "30"]),
        (["fuzz"], ["tests.fuzz"]),
        (["fuzz", "N=5", "ARGS=coco"], ["tests.fuzz", "--count", "5", "coco"]),
        (
            ["train", "DATA=a b", "WEIGHTS=c d.npz", "GPUS=0,1"],
            [
                *("mcc_caffe.train", "a b/train", "--variant", "paper", "--gpus", "0,1"),
                *("--weights", "c d.npz"),
            ],
        ),
        (
            ["train", 'ARGS=--out "my run" --iterations 5'],
            [
                *("mcc_caffe.train", "data/lmdb/train", "--variant", "mini", "--resume", "auto"),
                *("--out", "my run", "--iterations", "5"),
            ],
        ),
        (
            ["eval", "WEIGHTS=a.npz b.npz"],
            ["mcc_caffe.evaluate", "data/lmdb", "--variant", "mini", "--weights", "a.npz", "b.npz"],
        ),
        (["infer", "IMAGES=my set"], ["mcc_caffe.infer", "my set", "--variant", "mini"]),
        (["infer", "IMAGES=it's.jpg"], ["mcc_caffe.infer", "it's.jpg", "--variant", "mini"]),
        (
            ["infer", "IMAGES=*.jpg 'b c.png'"],
            ["mcc_caffe.infer", "*.jpg", "b c.png", "--variant", "mini"],
        ),
    ],
)
def test_words_reach_the_commands_as_they_were_given(arguments, expected, folder):
    (folder / "my set").mkdir()
    for name in ("it's.jpg", "x.jpg"):
        (folder / name).touch()
    done, called = commands(folder, *arguments)
    assert done.returncode == 0 and called == [expected], done.stderr


def test_a_set_that_is_there_is_baked_but_not_in_place_of_a_source(folder):
    (folder / "sets/train").mkdir(parents=True)
    bake = "data_tools.bake|sets/train|sets/baked|--copies|2|--format|lmdb|--variant|mini"
    for arguments, built in (
        ((), []),
        (("SOURCE=other",), ["data_tools.build_lmdb", "other", "sets"]),
        (("SOURCE=other", "ARGS=--split 5/5"), ["data_tools.build_lmdb", "other", "sets"]),
    ):
        (folder / "words.txt").unlink(missing_ok=True)
        done, called = commands(folder, "lmdb", "DATA=sets", "BAKE=2", *arguments)
        assert done.returncode == 0 and called[-1] == bake.split("|"), done.stderr
        assert [words[:3] for words in called[:-1]] == ([built] if built else [])


@pytest.mark.parametrize(
    "files, is_made",
    [
        ([], False),
        (["manifest.json", "Train/truth.partial.jsonl"], False),
        (["manifest.json", "Train/label_joint.txt"], True),
        (["manifest.json", "Train/label_joint.txt", "Test/truth.partial.jsonl"], False),
        (["another_set.json"], True),
    ],
)
def test_synthetic_hands_that_are_not_all_made_are_made_before_they_are_built(
    files, is_made, folder
):
    for name in files:
        (folder / "data/synth" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data/synth" / name).touch()
    done, called = commands(folder, "lmdb")
    assert done.returncode == 0, done.stderr
    made = [] if is_made else ["data_tools.synth"]
    assert [words[0] for words in called] == [*made, "data_tools.build_lmdb"]


@pytest.mark.parametrize("name", ["SOURCE", "DATA"])
def test_an_empty_folder_is_named(name, folder):
    done, called = commands(folder, "lmdb", f"{name}=")
    assert done.returncode and not called
    assert f"{name} is empty: give a folder, or leave it out" in done.stderr


@pytest.mark.parametrize("text", COMMANDS_IN_TEXT)
@pytest.mark.parametrize(
    "target, name",
    [
        *(("infer", name) for name in ("IMAGES", "ARGS", "VARIANT", "WEIGHTS")),
        *(("lmdb", name) for name in ("SOURCE", "DATA", "FORMAT")),
        *(("train", name) for name in ("DATA", "GPUS", "RESUME", "WEIGHTS")),
        *(("teach", name) for name in ("PHOTOS", "TAUGHT")),
        *(("web", name) for name in ("VARIANT", "WEIGHTS", "ARGS")),
        *((target, "ARGS") for target in ("demo", "doctor")),
        ("check", "SET"),
        ("caffe", "GPU"),
    ],
)
def test_nothing_that_is_given_is_executed(text, target, name, folder):
    # Without these no command gets the text. Of two values of one name make takes the second.
    companions = {"infer": ["IMAGES=a.jpg"], "lmdb": ["BAKE=2"], "teach": ["PHOTOS=a.jpg"]}
    done, _ = commands(folder, target, *companions.get(target, []), f"{name}={text}")
    assert done.returncode == 0 and not (folder / "X").exists(), done.stderr
    expected = [text]
    if name == "DATA" and target == "train":
        expected = [f"{text}/train"]
    elif name in ("IMAGES", "PHOTOS", "SET", "ARGS"):
        # xargs splits these. It drops a lone backslash, which shlex refuses.
        expected = [] if text == "\\" else shlex.split(text)
    assert any(
        words[start : start + len(expected)] == expected
        for words in recorded(folder)
        for start in range(len(words))
    )


@pytest.mark.parametrize(
    "text", ["/home/me/caf$fe", "$$HOME", "$(shell touch X)", *COMMANDS_IN_TEXT]
)
@pytest.mark.parametrize("name", ["CAFFE_SOURCE", "XDG_CACHE_HOME", "CUDA_ARCH", "PYTHON"])
def test_programs_read_variables_in_the_environment_as_they_were_given(text, name, folder):
    for program in (".venv/bin/python", "caffe_build/setup.sh"):
        (folder / program).write_text(f'#!/bin/sh\nprintf %s "${name}" > value.txt\n')
        done, _ = commands(folder, "setup" if "setup" in program else "caffe", f"{name}={text}")
        assert done.returncode == 0 and not (folder / "X").exists(), done.stderr
        assert (folder / "value.txt").read_text() == text


def test_a_quote_without_its_partner_is_named(folder):
    done, called = commands(folder, "infer", "IMAGES=not'there.jpg b.jpg")
    assert done.returncode and not called and "IMAGES has a quote" in done.stderr


@pytest.mark.parametrize("number", ["many", "-5", "a[0]", "", *COMMANDS_IN_TEXT])
def test_a_number_of_hands_is_a_number(number, folder):
    done, called = commands(folder, "synth", f"N={number}")
    assert done.returncode and not called and not (folder / "X").exists()
    assert f"N is '{number}': give a number of hands" in done.stderr


@pytest.mark.parametrize("copies", ["0", "-1", "many", "1.5", *COMMANDS_IN_TEXT])
def test_a_number_of_copies_is_one_before_the_set_is_built(copies, folder):
    done, called = commands(folder, "lmdb", "SOURCE=other", f"BAKE={copies}")
    assert done.returncode and not called and not (folder / "X").exists()
    assert f"BAKE is '{copies}': give a number of copies" in done.stderr


@pytest.mark.parametrize("arguments", [["lmdb"], ["lmdb", "BAKE=2"], ["demo"], ["synth"]])
def test_a_dry_run_runs_nothing(arguments, folder):
    done, called = commands(folder, "-n", *arguments)
    assert done.returncode == 0 and not called and not (folder / "words.txt").exists()


@pytest.mark.parametrize(
    "arguments, unread",
    [
        (["train", "N=3"], "N"),
        (["lint", "ARGS=--fix"], "ARGS"),
        (["ARGS=x"], "ARGS"),
        (["lmdb", "FORMAT=hdf5"], "FORMAT without BAKE"),
        (["doctor", "DATA=$(shell touch X)", "SET=b"], "DATA SET"),
        (["eval", "WEIGHT=own.caffemodel"], "WEIGHT"),
    ],
)
def test_a_variable_that_no_target_reads_is_named(arguments, unread, folder):
    done, called = commands(folder, *arguments)
    assert done.returncode == 2 and not called and not (folder / "X").exists()
    assert f"no target of this call reads {unread}: leave that out" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_one_of_several_targets_may_read_a_variable(folder):
    done, called = commands(folder, "synth", "train", "N=20", "DATA=sets")
    assert done.returncode == 0, done.stderr
    assert [words[0] for words in called] == ["data_tools.synth", "mcc_caffe.train"]


def test_a_number_of_hands_without_effect_is_named(folder):
    done, called = commands(folder, "lmdb", "N=30")
    assert [words[0] for words in called] == ["data_tools.synth", "data_tools.build_lmdb"]
    assert called[0][-4:] == ["--train", "30", "--test", "3"] and not done.stderr
    for arguments in ((), ("SOURCE=other",)):
        (folder / "data/synth/Train").mkdir(parents=True, exist_ok=True)
        (folder / "data/synth/Train/label_joint.txt").touch()
        done, _ = commands(folder, "lmdb", "N=30", *arguments)
        assert done.returncode == 0 and "so N=30 has no effect" in done.stderr


def test_each_target_is_said_to_read_what_its_recipe_reads():
    text = (ROOT / "Makefile").read_text()
    rules = re.findall(r"^([a-z-]+):([^\n#]*).*\n((?:\t.*\n)*)", text, re.M)
    assert len(rules) > 20
    for target, prerequisites, recipe in rules:
        recipe = recipe.replace("$(make_hands)", "$$N")
        read = {
            name for name in VARIABLES if re.search(rf"\$\$\{{?{name}\b|split,{name}\b", recipe)
        }
        if "caffe" in prerequisites.split():
            read.add("GPU")
        said = re.search(rf"^reads_{target} := (.*)$", text, re.M)
        names = re.findall(r"[A-Z]+", said[1]) if said else []
        assert set(names) == read, target
