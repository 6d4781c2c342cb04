"""Builds Caffe into the cache: fetch, edit, compile, check, and only then the final name."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, TextIO

from tqdm import tqdm

from caffe_build import check
from caffe_build.edits import add_files, apply_edits
from caffe_build.errors import CheckError, CompileError, DiskError, SourceError
from caffe_build.locate import read_about
from caffe_build.options import (
    CPU,
    KEY_DIGITS,
    Options,
    Toolkit,
    cache_key,
    gpu,
    machine_facts,
)
from caffe_build.requirements import packages_hint
from caffe_build.source import Package, Tree

_TOOLS = ("cmake", "ninja", "c++", "protoc")
_FETCH_TOOLS = ("apt-get", "dpkg-source")
_CUDA_PREFIX = "caffe-cuda-"  # of the names of builds with CUDA
_NEEDED_MB = 500  # a CPU build needs some 50, apt's lists up to 150 for a moment


class Step(NamedTuple):
    """How far ninja is."""

    done: int
    total: int


def say(text: str) -> None:
    """Print a line about the work."""
    print(f"caffe: {text}", flush=True)


def require_space(folder: Path, needed_mb: int) -> None:
    """Raise DiskError where the disk of a folder of the cache has less than `needed_mb` free."""
    free = shutil.disk_usage(folder).free // 2**20
    if free < needed_mb:
        raise DiskError(
            f"{folder} has {free} MB free, {needed_mb} are needed: "
            "make room, or set XDG_CACHE_HOME to a larger disk"
        )


def check_disk(folder: Path, output: str) -> None:
    """Raise DiskError where a program that wrote to a folder of the cache says: the disk is full.

    Args:
        folder: The folder.
        output: What the program printed.
    """
    if "No space left on device" in output:
        raise DiskError(
            f"the disk of {folder} is full: make room, or set XDG_CACHE_HOME to a larger one"
        )


def cached_prefix(source_id: str, options: Options, cache: Path) -> Path:
    """Return the folder in the cache of the build of a source with these options."""
    key = cache_key(source_id, options, machine_facts())
    return cache / f"{_CUDA_PREFIX if options.toolkit else 'caffe-'}{key}"


def is_named_cuda(prefix: Path) -> bool:
    """Return whether a folder in the cache is named as a build with CUDA; it may be gone."""
    return bool(re.fullmatch(f"{_CUDA_PREFIX}[0-9a-f]{{{KEY_DIGITS}}}", prefix.name))


def options_of(prefix: Path) -> Options:
    """Return the options that would today build what is at `prefix` in the cache."""
    toolkit = read_about(prefix).get("toolkit")
    return gpu(Toolkit(**toolkit)) if toolkit else CPU


def is_current(prefix: Path) -> bool:
    """Return whether the source of the build at `prefix` would give the same build today."""
    source_id = read_about(prefix).get("source")
    return isinstance(source_id, str) and prefix == cached_prefix(
        source_id, options_of(prefix), prefix.parent
    )


def is_usable(prefix: Path) -> bool:
    """Return whether a finished build is at `prefix` and its libraries still load.

    An upgrade of the system may have removed one.
    """
    return prefix.is_dir() and not check.load_fault(prefix)


def build(source: Package | Tree, options: Options, prefix: Path, jobs: int) -> None:
    """Build Caffe.

    Of two processes that build the same, one builds and the other waits for it. While this works,
    there are beside `prefix` .build (kept after a failure or an interruption, so that the next run
    goes on with it), .tmp (the tree before it has its name), .lock and .log.

    Args:
        source: What to build.
        options: How to build it.
        prefix: The folder of the finished build.
        jobs: Number of compilers at once.

    Raises:
        BuildError: SourceError, EditError, CompileError, CheckError or DiskError.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with lock(prefix.with_name(f"{prefix.name}.lock")):
        if prefix.is_dir():
            fault = check.load_fault(prefix)
            if not fault:  # another process has just built it
                return
            say(f"the Caffe built before no longer loads ({fault}), so it is built again")
        started = time.monotonic()
        tools = _TOOLS + (_FETCH_TOOLS if isinstance(source, Package) else ())
        _look_for_tools(tools, options, prefix.parent)
        require_space(prefix.parent, _NEEDED_MB)
        log_path = prefix.with_name(f"{prefix.name}.log")
        say(f"building Caffe 1.0 ({options.name}), {jobs} jobs; all output goes to {log_path}")
        with open(log_path, "w", encoding="utf-8") as log:
            try:
                _build(source, options, prefix, jobs, log)
            except (SourceError, CompileError):
                check_disk(prefix.parent, log_path.read_text(errors="replace"))
                raise
            except KeyboardInterrupt:
                say("the next run goes on from here")
                raise
        say(f"built in {time.monotonic() - started:.0f} s")


def _build(source: Package | Tree, options: Options, prefix: Path, jobs: int, log: TextIO) -> None:
    """Build Caffe, see `build`, whose lock is held and whose log is open."""
    work = prefix.with_name(f"{prefix.name}.build")
    tree, objects = work / "source", work / "objects"
    work.mkdir(exist_ok=True)
    if not tree.is_dir():
        if isinstance(source, Tree):
            say(f"source: {source.root}")
        else:
            say(f"source: package caffe {source.version}, by apt")
        draft = work / "source.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        source.unpack(draft, log)
        draft.rename(tree)
    apply_edits(tree, options.edits)
    add_files(tree, options.additions)
    _configure(tree, objects, options, log)
    _compile(objects, jobs, log)

    staged = prefix.with_name(f"{prefix.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    _stage(tree, objects, staged)
    facts = {
        "options": options.name,
        "cmake": options.definitions,
        "source": source.id,
        **machine_facts(),
    }
    if options.toolkit:
        facts["toolkit"] = asdict(options.toolkit)
    (staged / "about.json").write_text(json.dumps(facts, indent=2) + "\n")
    fault = check.fault(staged / "python")
    if fault:
        raise CheckError(
            f"Caffe was built but does not work: {fault}. "
            f"The tree is left at {staged}, the log is {log.name}"
        )
    shutil.rmtree(prefix, ignore_errors=True)
    staged.rename(prefix)
    shutil.rmtree(work)


def _compiler_environment(folder: Path) -> dict[str, str]:
    """Return the environment of cmake, ninja and the compilers.

    Args:
        folder: A folder in the cache for their temporary files, since another disk may be full.
    """
    # cmake would read these, but the key of a build does not depend on them.
    ignored = ("CC", "CXX", "CFLAGS", "LDFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    return {**environment, "TMPDIR": str(folder)}


def _look_for_tools(tools: tuple[str, ...], options: Options, cache: Path) -> None:
    """Raise CompileError where a tool or a library is missing."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise CompileError(f"missing: {', '.join(missing)}. {packages_hint()}")
    for library in options.libraries:
        link = ["c++", "-x", "c++", "-", "-x", "none", f"-l{library}", "-o", os.devnull]
        if subprocess.run(
            link,
            env=_compiler_environment(cache),
            input=b"int main() {}",
            capture_output=True,
            check=False,
        ).returncode:
            hint = packages_hint()
            if library.startswith("boost_python"):
                hint += (
                    f"; for this Python ({sys.executable}) only if it is the distribution's own "
                    "version"
                )
            raise CompileError(
                f"the library {library} is missing or the compiler does not work: {hint}"
            )


def _configure(tree: Path, objects: Path, options: Options, log: TextIO) -> None:
    """Run cmake."""
    # The cache of an earlier run may point to a virtual environment that is gone.
    (objects / "CMakeCache.txt").unlink(missing_ok=True)
    definitions = {**options.definitions, "PYTHON_EXECUTABLE": sys.executable}
    command = [
        "cmake",
        "-G",
        "Ninja",
        "-S",
        str(tree),
        "-B",
        str(objects),
        *(f"-D{name}={value}" for name, value in definitions.items()),
    ]
    log.flush()
    environment = _compiler_environment(objects.parent)
    if subprocess.run(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
    ).returncode:
        raise _failure("cmake", log)


def _compile(objects: Path, jobs: int, log: TextIO) -> None:
    """Run ninja, with a progress bar."""
    command = ["ninja", "-C", str(objects), "-j", str(jobs), "caffe", "pycaffe", "caffe.bin"]
    environment = {**_compiler_environment(objects.parent), "NINJA_STATUS": "[%f/%t] "}
    # Seconds between two drawings of the bar: in a log file each of them is a line.
    interval = 0.2 if sys.stderr and sys.stderr.isatty() else 30
    with (
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as ninja,
        tqdm(
            desc="compiling",
            unit="file",
            mininterval=interval,
            maxinterval=interval,
            disable=sys.stderr is None,
        ) as bar,
    ):
        assert ninja.stdout is not None
        try:
            for line in ninja.stdout:
                log.write(line)
                step = ninja_step(line)
                if step:
                    bar.total = step.total
                    bar.update(step.done - bar.n)
        except BaseException:
            ninja.terminate()
            raise
    log.flush()
    if ninja.returncode:
        raise _failure("the compiler", log)


def ninja_step(line: str) -> Step | None:
    """Parse a line of ninja such as "[12/112] Building ..."; return None for any other line."""
    match = re.match(r"\[(\d+)/(\d+)\] ", line)
    return Step(int(match[1]), int(match[2])) if match else None


def _failure(program: str, log: TextIO) -> CompileError:
    """Return the error of a program that failed, with what its log says of it."""
    return CompileError(
        f"{program} failed; the log is {log.name}, and the end of it that matters:\n"
        f"{failure_lines(Path(log.name))}"
    )


def failure_lines(log: Path) -> str:
    """Return the last 20 lines of a log that tell of an error, long ones cut.

    If none tells of an error, these are the log's last lines.
    """
    lines = log.read_text(errors="replace").splitlines()
    telling = [
        line
        for line in lines
        if re.search(r"error|fatal|FAILED|undefined reference|Killed|No space left", line, re.I)
    ]
    return "\n".join(line[:300] for line in (telling or lines)[-20:])


def _stage(tree: Path, objects: Path, staged: Path) -> None:
    """Copy the finished build to `staged`."""
    # The tree's own _caffe.so is a link into the build folder, which goes.
    shutil.copytree(
        tree / "python" / "caffe",
        staged / "python" / "caffe",
        ignore=shutil.ignore_patterns("*.so", "*.cpp", "test"),
    )
    shutil.copy2(objects / "lib" / "_caffe.so", staged / "python" / "caffe")
    (staged / "lib").mkdir()
    for library in (objects / "lib").glob("libcaffe.so*"):
        shutil.copy2(library, staged / "lib", follow_symlinks=False)
    (staged / "bin").mkdir()
    shutil.copy2(objects / "tools" / "caffe", staged / "bin")
    shutil.copy2(tree / "LICENSE", staged)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a file lock; say so where it has to wait for another process."""
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making the same; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
