"""Commands run as a user would run them, what they refuse, and the files and logs they leave."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from mcc_caffe.core.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


# A text of Python. After it, each process that this one starts is followed by a signal, while the
# new process still waits for its arguments: Ctrl-C to both, as from a terminal, others to this one.
SIGNAL_AT_START = """
import multiprocessing.resource_tracker, multiprocessing.util, os, signal, sys, time

multiprocessing.resource_tracker.ensure_running()
start = multiprocessing.util.spawnv_passfds

def start_and_signal(*arguments):
    process = start(*arguments)
    number = int(sys.argv[1])
    os.kill(0 if number == signal.SIGINT else os.getpid(), number)
    time.sleep(0.1)
    return process

multiprocessing.util.spawnv_passfds = start_and_signal
"""


class Begun(Exception):
    """A command has found nothing wrong, and its work begins."""


def begin(*_, **__):
    """Stand for what a command begins its work with."""
    raise Begun


def run(*command, **options) -> subprocess.CompletedProcess:
    """Run `python -m <command>` from the top of the project, as a user would."""
    return run_program(sys.executable, "-m", *command, **options)


def run_code(code: str, *arguments, env=os.environ, **options) -> subprocess.CompletedProcess:
    """Run a text of Python in a process of its own, which imports this project."""
    environment = importing_this_project(env)
    return run_program(sys.executable, "-c", code, *arguments, env=environment, **options)


def run_program(*words, **options) -> subprocess.CompletedProcess:
    """Run a program from the top of the project, and keep what it prints."""
    settings = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(list(map(str, words)), **(settings | options))


def refusal(done: subprocess.CompletedProcess, code: int = 2) -> str:
    """Check that a command ended with this code and one line on stderr; return that line.

    A usage may stand before it.
    """
    match = re.fullmatch(r"(?:usage: .*\n(?: .*\n)*.+: )?(error: .*)\n", done.stderr)
    assert match and done.returncode == code, (done.returncode, done.stderr)
    return match[1]


def main_refusal(main, *words, code: int = 2) -> str:
    """Call a command's `main` in this process; return what it says where it refuses its options.

    A usage may be part of that. The error must have this exit code.
    """
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises((UserError, SystemExit)) as caught:
        main(list(map(str, words)))
    assert caught.value.code == code
    return f"{errors.getvalue()}{caught.value}"


def start(*command, **options) -> subprocess.Popen:
    """Start `python -m <command>` from the top of the project; its outputs are pipes."""
    return start_program(sys.executable, "-m", *command, **options)


def start_program(*words, **options) -> subprocess.Popen:
    """Start a program from the top of the project; its outputs are pipes."""
    settings = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, words)), **(settings | options))


def importing_this_project(environment) -> dict[str, str]:
    """Return the environment with this project's folder on Python's path."""
    path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return {**environment, "PYTHONPATH": path}


def hear_a_hang_up():
    """Take SIGHUP as a process of a terminal does, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_for(condition, process, seconds=120):
    """Wait until `condition()` holds while the process runs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if condition():
                return
        except FileNotFoundError:
            pass
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def _running_process(pid: int) -> tuple[int, ...]:
    """Return the process group of a process, (group,); () of one that is gone or a zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    state, _, group = text.rpartition(")")[2].split()[:3]
    return () if state == "Z" else (int(group),)


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie that nobody has fetched yet."""
    return bool(_running_process(pid))


def group_processes(leader: int) -> list[int]:
    """Return the ids of the processes of a process group that still run."""
    pids = [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _running_process(pid) == (leader,)]


def wait_until_ended(is_left, seconds=300):
    """Wait until `is_left()` is false: no process outlives the one that started it."""
    until = time.monotonic() + seconds
    while is_left():
        assert time.monotonic() < until, "processes outlive the one that started them"
        time.sleep(0.05)


def files_of(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Return {path: content} of all files in a folder and the folders below it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def log(folder: pathlib.Path) -> list[dict]:
    """Read the lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: pathlib.Path) -> dict[int, dict[str, float]]:
    """Read {iteration: losses} of a run's log."""
    return {line["iteration"]: line["losses"] for line in log(folder)}
