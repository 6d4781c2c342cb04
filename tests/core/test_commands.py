"""The options, messages and exit codes that all commands share."""

import importlib
import os
import pickle
import shlex
import signal
import subprocess
import sys

import pytest

from mcc_caffe.core.commands import command_parser, input_side, seed_number
from mcc_caffe.core.errors import UserError
from tests.support.commands import ROOT, refusal, run, run_code, run_program

COMMAND = """
import logging, sys, warnings
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError

def main():
    parser = command_parser("Counts.")
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args(sys.argv[1:])
    for number in progress_bar(range(3), unit="sheep", mininterval=0):
        logging.getLogger("mcc_caffe.sheep").info("sheep %d comes", number)
        logging.getLogger("mcc_caffe.sheep").debug("sheep %d is woolly", number)
        logging.getLogger("another.library").info("not our business")
        print(number)
    logging.getLogger("mcc_caffe.sheep").warning("the wolf is near")
    warnings.warn("an old name")
    if options.fails:
        raise UserError("no sheep is left: buy some")

run_command(main)
"""


def count_sheep(*options: str) -> subprocess.CompletedProcess:
    return run_code(COMMAND, *options)


def test_without_stderr_the_work_is_done():
    """Daemons close it; the progress bar ended the run."""
    command = ["bash", "-c", '"$@" 2>&-', "bash", sys.executable, "-c", COMMAND]
    done = run_program(*command)
    assert (done.returncode, done.stdout) == (0, "0\n1\n2\n")


def test_without_a_reader_of_stderr_the_work_is_done():
    """The progress bar ended the run where `tee` had ended, or the log's disk was full."""
    with open("/dev/full", "w") as full:
        reader, writer = os.pipe()
        os.close(reader)
        for stderr in (full, writer):
            done = subprocess.run(
                [sys.executable, "-c", COMMAND],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                timeout=60,
            )
            assert (done.returncode, done.stdout) == (0, "0\n1\n2\n")
        os.close(writer)


def lines_without_bar(text: str) -> list[str]:
    lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [line for line in lines if line.strip() and "sheep/s" not in line]


def test_an_unknown_verbosity_is_told():
    done = run_code(COMMAND, env={**os.environ, "MCC_CAFFE_VERBOSITY": "foo"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: MCC_CAFFE_VERBOSITY is 'foo': give one of quiet, normal, verbose, debug\n"
    )


@pytest.mark.parametrize("option", ["--help", "--quiet", "--verbose"])
def test_an_unknown_verbosity_hinders_no_command_that_needs_none(option):
    done = run_code(COMMAND, option, env={**os.environ, "MCC_CAFFE_VERBOSITY": "foo"})
    assert done.returncode == 0 and "MCC_CAFFE_VERBOSITY" not in done.stderr
    assert ("sheep 0 comes" in done.stderr) == (option == "--verbose")


def test_the_verbosity_may_be_written_in_any_case():
    done = run_code(COMMAND, env={**os.environ, "MCC_CAFFE_VERBOSITY": "Quiet"})
    assert done.returncode == 0 and "sheep" not in done.stderr
    assert "warning: the wolf is near" in done.stderr


def test_messages_go_to_stderr_above_the_bar_and_results_to_stdout():
    done = count_sheep()
    assert done.returncode == 0 and done.stdout == "0\n1\n2\n"
    assert lines_without_bar(done.stderr) == [
        "sheep 0 comes",
        "sheep 1 comes",
        "sheep 2 comes",
        "warning: the wolf is near",
        "warning: an old name",
    ]
    assert "3/3" in done.stderr


def test_quiet_says_only_warnings_and_shows_no_bar():
    done = count_sheep("--quiet")
    assert done.stdout == "0\n1\n2\n"
    assert done.stderr == "warning: the wolf is near\nwarning: an old name\n"


@pytest.mark.parametrize("option", ["-v", "--verbose", "--debug"])
def test_verbose_says_more(option):
    done = count_sheep(option)
    assert "sheep 1 is woolly" in lines_without_bar(done.stderr)
    assert "not our business" not in done.stderr


def test_a_bad_input_gives_one_line_and_with_debug_a_traceback():
    done = count_sheep("--fails", "--quiet")
    assert done.returncode == 2
    assert done.stderr.splitlines()[2:] == ["error: no sheep is left: buy some"]
    done = count_sheep("--fails", "--debug")
    assert done.returncode == 2
    assert "error: no sheep is left: buy some\nTraceback (most recent call last):" in done.stderr
    assert done.stderr.endswith("UserError: no sheep is left: buy some\n")


def test_options_of_messages_exclude_each_other_and_leave_nothing_in_the_namespace(capsys):
    assert vars(command_parser("Counts.").parse_args([])) == {}
    with pytest.raises(SystemExit):
        command_parser("Counts.").parse_args(["--quiet", "--verbose"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module", ["mcc_caffe.infer", "mcc_caffe.web", "benchmarks.sizes", "tests.fuzz"]
)
def test_the_usage_line_names_a_command_that_runs(module):
    done = run(module, "--help")
    assert done.stdout.startswith(f"usage: python -m {module} [-h] "), done.stdout


def test_the_side_of_a_networks_input_is_a_multiple_of_8(capsys):
    parser = command_parser("Looks.")
    parser.add_argument("--input-size", type=input_side)
    assert parser.parse_args(["--input-size", "48"]).input_size == 48
    with pytest.raises(SystemExit):
        parser.parse_args(["--input-size", "50"])
    assert "50 is not a multiple of 8" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_cannot_be_is_refused(seed, capsys):
    parser = command_parser("Counts.")
    parser.add_argument("--seed", type=seed_number)
    assert parser.parse_args(["--seed", "4294967295"]).seed == 4294967295
    with pytest.raises(SystemExit):
        parser.parse_args(["--seed", seed])
    assert f"{seed} is not between 0 and 4294967295" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("command", ["mcc_caffe.evaluate_scenes", "mcc_caffe.infer"])
def test_a_threshold_that_is_not_finite_is_refused(command, text, capsys):
    option = "--score" if command.endswith("scenes") else "--threshold"
    parse = importlib.import_module(command).parse_arguments
    for good in ("-1", "2"):
        parse(["a", option, good])
    with pytest.raises(SystemExit):
        parse(["a", f"{option}={text}"])
    assert f"argument {option}: {text} is no finite number" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize("command", ["infer", "evaluate", "plot", "train"])
def test_an_empty_path_is_not_the_current_folder(command, text, capsys):
    """Every command's --out is such a path."""
    main = importlib.import_module(f"mcc_caffe.{command}").main
    with pytest.raises(SystemExit):
        main(["anything", "--out", text])
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument --out: {text!r} is no path: is a variable of the command line not s" in error


@pytest.mark.parametrize(
    "command, arguments, message",
    [
        ("mcc_caffe.web", ["--port", "x"], "argument --port: 'x' is no whole number"),
        ("mcc_caffe.web", ["serve", "--port", "x"], "argument --port: 'x' is no whole number"),
        ("mcc_caffe.web", ["label", ""], "argument FOLDER: '' is no path: is a variable of the"),
        ("data_tools.teach", ["a", "b", "--agreement", "abc"], "--agreement: 'abc' is no number"),
        ("mcc_caffe.infer", ["a", "--levels", "x"], "--levels: 'x' is no whole number"),
        ("mcc_caffe.infer", ["a", "--looks", "x"], "--looks: 'x' is no whole number"),
        ("mcc_caffe.infer", ["a", "--seed", "1.5"], "--seed: '1.5' is no whole number"),
        ("mcc_caffe.train", ["--input-size", ""], "--input-size: '' is no whole number"),
        ("mcc_caffe.train", ["--workers", "x"], "--workers: 'x' is no whole number"),
        ("mcc_caffe.train_boxes", ["a", "--lr", "x"], "--lr: 'x' is no number"),
        ("data_tools.synth", ["--held", "x"], "argument --held: 'x' is no number"),
    ],
)
def test_a_value_that_is_no_number_is_said_in_plain_words(command, arguments, message, capsys):
    main = importlib.import_module(command).main
    with pytest.raises(SystemExit) as end:
        main(arguments)
    line = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and message in line and "invalid" not in line


def test_a_full_disk_that_names_no_file_names_no_wrong_disk(tmp_path):
    code = """
import resource
from mcc_caffe.core.commands import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
def main():
    with open("log", "w") as file:
        file.write(5000 * "x")
run_command(main)
"""
    done = run_code(code, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)})
    message = (
        "error: File too large: make room where this command writes; "
        f"its temporary files go to {tmp_path} (TMPDIR)"
    )
    assert refusal(done) == message
    no_temporary_folder = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']"
    done = run_code(
        no_temporary_folder + code, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert refusal(done) == message


@pytest.mark.parametrize(
    "write",
    [
        "with locked(out, 'writes'): pass",
        "empty_own_folder(out)",
    ],
)
def test_a_full_disk_names_what_was_to_be_written_on_it(write, tmp_path):
    code = f"""
import resource, sys
from pathlib import Path
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.result_folders import empty_own_folder, locked
out = Path(sys.argv[1])
def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    {write}
run_command(main)
"""
    done = run_code(code, tmp_path / "out", cwd="/")
    line = refusal(done)
    assert line.startswith(f"error: {tmp_path / 'out'}") and "--resume" not in line
    assert "cannot be written (File too large): make room" in line
    assert not list(tmp_path.glob(".*"))


PRINT_ONE_LINE = "from mcc_caffe.core.commands import run_command; run_command(lambda: print(1))"


@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_full_disk_under_stdout_is_one_line(buffering):
    environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_ONE_LINE],
            cwd=ROOT,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert refusal(done).startswith("error: No space left on device: make room")


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("code", [PRINT_ONE_LINE, COMMAND])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(buffering, code):
    environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=ROOT,
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_closed_stdout_hinders_no_command():
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(PRINT_ONE_LINE)} >&-"
    assert run_program("sh", "-c", command).returncode == 0


def test_a_working_folder_that_is_gone_is_told(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"""
import os, pathlib
from mcc_caffe.core.commands import run_command
os.rmdir({str(folder)!r})
run_command(pathlib.Path.cwd)
"""
    done = run_code(code, cwd=folder)
    assert refusal(done) == (
        "error: No such file or directory: the folder in which this command runs is gone; "
        "change to another (cd)"
    )


def test_a_lack_of_memory_is_one_line(tmp_path):
    code = """
import resource
import numpy as np
from mcc_caffe.core.commands import run_command
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
run_command(lambda: np.zeros((1 << 20, 1 << 14)))
"""
    done = run_code(code, cwd=tmp_path)
    assert "error: not enough memory (Unable to allocate 128. GiB" in refusal(done)


@pytest.mark.parametrize("start", ["threading.Thread(target=print).start()", "os.fork()"])
def test_a_limit_on_processes_is_one_line(start):
    code = f"""
import os, resource, threading
from mcc_caffe.core.commands import run_command
def main():
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.geteuid() == 0:  # whom it does not bind
        os.setuid(65534)
    {start}
run_command(main)
"""
    line = refusal(run_code(code))
    assert line.startswith(("error: can't start new thread: ", "error: Resource temporarily un"))
    assert "end other programs, or raise the limit on processes and threads (ulimit -u" in line


def test_another_runtime_error_keeps_its_traceback():
    code = """
from mcc_caffe.core.commands import run_command
def main():
    raise RuntimeError("a fault of this program")
run_command(main)
"""
    done = run_code(code)
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize("write", ["open('/dev/null')", "write_atomically(Path('x'), b'')"])
def test_a_limit_on_open_files_is_one_line(write, tmp_path):
    code = f"""
import resource
from pathlib import Path
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.files import write_atomically
def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    {write}
run_command(main)
"""
    line = refusal(run_code(code, cwd=tmp_path))
    assert "Too many open files" in line
    assert line.endswith(": raise the limit on open files (ulimit -n)")


def test_a_lack_of_temporary_folders_is_one_line():
    code = """
import tempfile
from mcc_caffe.core.commands import run_command
tempfile._candidate_tempdir_list = lambda: ["/proc"]
run_command(tempfile.mkdtemp)
"""
    assert refusal(run_code(code)) == (
        "error: No usable temporary directory found in ['/proc']: "
        "set TMPDIR to a folder with room that you may write to"
    )


def test_a_name_that_is_not_utf_8_can_be_printed():
    code = "from mcc_caffe.core.commands import run_command; run_command(lambda: print('\\udcff'))"
    done = run_code(code, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert (done.returncode, done.stdout) == (0, "\\udcff\n")


def test_an_error_is_one_line_whatever_it_quotes():
    error = UserError("a\nb\r\x1b[31m \ud800 \udcff é \u2028 is no name")
    assert str(error) == "a\\nb\\r\\x1b[31m \\ud800 \\udcff é \\u2028 is no name"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
