"""`python -m data_tools TOOL`: one entrance to all data tools."""

import pytest

from data_tools.__main__ import TOOLS
from tests.support.commands import refusal, run
from tests.support.hands import hand, write_layout


def test_the_help_lists_every_tool_on_a_line_of_its_own():
    done = run("data_tools", "--help")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for tool in TOOLS:
        (line,) = (words for words in lines if words[:1] == [tool])
        assert len(line) > 3


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_gets_its_options_and_shows_its_own_name(tool):
    done = run("data_tools", tool, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: mcc-data {tool} ")
    assert f"python -m {TOOLS[tool]}" in done.stdout


def test_an_unknown_verbosity_hinders_no_tool_that_is_quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("MCC_CAFFE_VERBOSITY", "foo")
    assert "set was not found" in refusal(run("data_tools", "check", tmp_path / "set", "--quiet"))
    assert "MCC_CAFFE_VERBOSITY is 'foo'" in refusal(run("data_tools", "check", tmp_path / "set"))


def test_a_tool_keeps_its_output_and_exit_code(tmp_path):
    write_layout(tmp_path / "set", {"Train": [hand(1), hand(1, key="2.jpg")], "Test": [hand(1)]})
    done = run("data_tools", "--quiet", "check", tmp_path / "set", "--out", tmp_path / "out")
    assert done.returncode == 3 and "FAULT leak, 1 x" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: TOOL"),
        (["paint"], "invalid choice: 'paint'"),
        (["--paint", "check"], "unrecognized arguments: --paint"),
        (["check"], "the following arguments are required: SET"),
        (["check", "nowhere"], "nowhere was not found"),
    ],
)
def test_wrong_arguments_give_one_line(arguments, message):
    assert message in refusal(run("data_tools", *arguments))
