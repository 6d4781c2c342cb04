"""Lets a process of its own read mutated files, and says how each try ended.

The process may abort, hang or fill its memory: each is a bad ending, and another process goes on.
"""

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import traceback
import zlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.errors import UserError

SECONDS = 60  # that a try may take
_MEMORY_MIB = 3072  # of RAM that the process may take
_ADDRESS_SPACE = 12 << 30  # bytes
_LONGEST_MESSAGE = 2000  # characters of an error

READ, REFUSED, BAD = "read", "refused", "bad"


class Outcome(NamedTuple):
    """How a try ended.

    Attributes:
        part: The reader.
        number: The try's number, which with the seed decides the mutation.
        verdict: READ, REFUSED or BAD.
        text: The error's message; of a bad ending what went wrong.
    """

    part: str
    number: int
    verdict: str
    text: str = ""


def generator(part: str, seed: int, number: int) -> np.random.Generator:
    """Return the random numbers of a try."""
    return np.random.default_rng((seed, zlib.crc32(part.encode()), number))


def run_tries(part: str, seed: int, numbers: range) -> Iterator[Outcome]:
    """Read mutated files in another process.

    Args:
        part: A name of `parts.PARTS`.
        seed: The seed of the mutations.
        numbers: The tries.
    """
    process = Process()
    try:
        for number in numbers:
            yield process.ask(part, seed, number)
    finally:
        process.end()


class Process:
    """The process that reads, and the pipe to it; after a bad ending another process goes on."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="mcc-fuzz-")
        self._errors = Path(self._folder.name, "stderr")
        self._process = context.Process(target=_work, args=(end, self._folder.name), daemon=True)
        self._process.start()
        end.close()
        self._pipe.recv()  # it has imported what it needs

    def ask(self, part: str, seed: int, number: int) -> Outcome:
        outcome = self._ask(part, seed, number)
        if outcome.verdict == BAD:
            self.end()
            self._start()
        return outcome

    def _ask(self, part: str, seed: int, number: int) -> Outcome:
        self._pipe.send((part, seed, number))
        try:
            if self._pipe.poll(SECONDS):
                return Outcome(part, number, *self._pipe.recv())
            return Outcome(part, number, BAD, f"it takes more than {SECONDS} s")
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            last = self._errors.read_text(errors="replace").strip().splitlines()[-3:]
            return Outcome(part, number, BAD, f"the process ends with {how}: {' | '.join(last)}")

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._folder.cleanup()


def _work(pipe: Connection, folder: str) -> None:
    """Read files as the pipe asks, in a process of its own."""
    errors = os.open(Path(folder, "stderr"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(errors, sys.stderr.fileno())
    from tests.fuzz.parts import PARTS

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    opened: dict[str, Any] = {}
    pipe.send(None)
    while True:
        try:
            part, seed, number = pipe.recv()
        except EOFError:
            return
        if part not in opened:
            own_folder = Path(folder, part)
            own_folder.mkdir()
            opened[part] = PARTS[part].make(own_folder)
        pipe.send(_try(opened[part], generator(part, seed, number)))


def _try(part: Any, random: np.random.Generator) -> tuple[str, str]:
    """Return the verdict on one try, and what it says."""
    try:
        messages = part.attempt(random)
        verdict = REFUSED if messages else READ
    except UserError as error:
        verdict, messages = REFUSED, [str(error)]
    except BaseException:
        return BAD, traceback.format_exc(limit=-4)
    for message in messages:
        if not message or len(message.splitlines()) > 1 or len(message) > _LONGEST_MESSAGE:
            return BAD, f"its message is no clear line: {message[:500]!r}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    if memory > _MEMORY_MIB:
        return BAD, f"it took {memory} MiB"
    return verdict, "; ".join(messages)
