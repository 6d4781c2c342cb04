"""What a command does before its imports: Ctrl-C, limits on memory, shared memory, full disks."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from mcc_caffe.core.start import prepare_command
from tests.support.commands import ROOT, hear_a_hang_up, refusal, run, run_code, start_program

# Stands for a module that takes long to import: it says so, then sleeps.
SLOW_MODULE = """
import sys, time
print("importing", file=sys.stderr, flush=True)
time.sleep(60)
"""
ENTRY_POINT = "from mcc_caffe.entry_points import infer; infer()"


@pytest.mark.parametrize(
    "arguments", [("-m", "mcc_caffe.infer"), ("-m", "data_tools.synth"), ("-c", ENTRY_POINT)]
)
def test_ctrl_c_during_the_imports_gives_no_traceback(arguments, tmp_path):
    (tmp_path / "numpy.py").write_text(SLOW_MODULE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    process = start_program(sys.executable, *arguments, env=environment)
    assert process.stderr.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == -signal.SIGINT


def test_ctrl_c_is_left_alone_where_another_program_imports_the_package(tmp_path):
    (tmp_path / "theirs.py").write_text(
        "import signal, mcc_caffe, data_tools\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('caught')\n"
    )
    done = run("theirs", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "caught\n", done.stderr


def test_a_second_ctrl_c_while_the_first_is_told_brings_no_traceback():
    done = run_code(
        "import logging, signal\n"
        "from mcc_caffe.core import commands\n"
        "def press_again(record): signal.raise_signal(signal.SIGINT)\n"
        "logging.getLogger(commands.__name__).addFilter(press_again)\n"
        "commands.run_command(lambda: signal.raise_signal(signal.SIGINT))\n"
    )
    assert done.returncode == 130 and done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_commands_own_processes_without_a_word(number):
    done = run_code(
        "import multiprocessing, os, signal\n"
        "from mcc_caffe.core.start import catch_stop_signals\n"
        "def wait(started): catch_stop_signals(); started.set(); signal.pause()\n"
        "context = multiprocessing.get_context('fork')\n"
        "started = context.Event()\n"
        "process = context.Process(target=wait, args=(started,))\n"
        f"process.start(); started.wait(); os.kill(process.pid, {number}); process.join()\n"
        "print(process.exitcode)\n",
        preexec_fn=hear_a_hang_up,
    )
    assert done.stdout == f"{-number}\n" and not done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_a_command_finish_what_ctrl_c_does(number):
    done = run_code(
        "import signal\n"
        "from mcc_caffe.core.commands import run_command\n"
        "def main():\n"
        f"    try: signal.raise_signal({number})\n"
        "    finally: signal.raise_signal(signal.SIGHUP); print('labels are written')\n"
        "run_command(main)\n",
        preexec_fn=hear_a_hang_up,
    )
    assert (done.returncode, done.stdout) == (128 + number, "labels are written\n")
    assert done.stderr == f"ended by {number.name}\n"


def test_a_closed_terminal_takes_no_message_and_changes_no_exit_code():
    """A full device stands for it."""
    with open("/dev/full", "w") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "mcc_caffe.plot", "no run"], cwd=ROOT, stderr=stderr
        )
    assert done.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed, tmp_path):
    """What libraries write to stderr would go into it, as libjpeg's warnings into an LMDB file."""
    code = (
        "import os, subprocess, sys\n"
        "from mcc_caffe.core.start import prepare_command\n"
        "prepare_command()\n"
        "with open(sys.argv[1], 'w') as file:\n"
        "    os.write(2, b'a warning of a library')\n"
        "    child = subprocess.run(['sh', '-c', 'echo another >&2'])\n"
        "    print(file.fileno() > 2, child.returncode, file=file)\n"
    )
    file = tmp_path / "data"
    words = ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-c", code, file]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert file.read_text() == "True 0\n"


@pytest.mark.parametrize(
    "module, kibibytes",
    [
        ("mcc_caffe.infer", 1_300_000),
        ("mcc_caffe.infer", 1_600_000),
        ("mcc_caffe.train", 1_800_000),
        ("data_tools.check", 300_000),
    ],
)
def test_a_limit_on_memory_that_is_too_small_is_one_line(module, kibibytes):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (kibibytes << 10, kibibytes << 10))

    done = run(module, "--help", preexec_fn=limit, timeout=60)
    line = refusal(done)
    assert f"the limit on memory (ulimit -v) is {kibibytes >> 10} MiB" in line
    assert "raise it (ulimit -v" in line and not done.stdout


def test_a_sufficient_limit_on_memory_is_none(capsys):
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, before[1]))
    handler = signal.getsignal(signal.SIGINT)
    try:
        prepare_command()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGINT, handler)
    assert not capsys.readouterr().err
