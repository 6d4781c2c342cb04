"""Makes `import caffe` work in this interpreter, in the quickest way that there is:

    python -m caffe_build                    use the Caffe that is there, or build one
    CAFFE_PREFIX=DIR python -m caffe_build   use the Caffe that you built in DIR
    CAFFE_SOURCE=DIR python -m caffe_build   build from the source tree in DIR, which stays as it is
    python -m caffe_build --gpu 1            build with CUDA, cuDNN and NCCL, by the machine's nvcc
    python -m caffe_build --print-prefix     only say which Caffe `import caffe` takes

A Caffe that you name comes before one that is found. A Caffe that Python finds already, from
PYTHONPATH for example, is used as it is. Builds are kept in ~/.cache/mcc-caffe (under
XDG_CACHE_HOME if that is set), so that another clone needs seconds.

A build with CUDA stays in use until --gpu 0 goes back to the one for the CPU. It is compiled for
the machine's GPUs, or for those of CUDA_ARCH="80;90". CUDA_TOOLKIT_ROOT=DIR names another toolkit
than nvcc's on PATH, and CUDAHOSTCXX=g++-14 another compiler for nvcc.

Exit codes: 0 done, 1 no Caffe to print, 2 bad arguments, 3 the Caffe named or found does not work,
4 no source, 5 an edit did not fit the source, 6 a tool or a library is missing, or compiling
failed, 7 the built Caffe does not work, 8 disk full or not writable, 130 interrupted (the next run
goes on).
"""

import argparse
import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from caffe_build import check, locate
from caffe_build.errors import CompileError, DiskError, PrefixError, SourceError, run_command
from caffe_build.requirements import python_hint

if TYPE_CHECKING:
    from caffe_build import source

# The errors of a system whose remedy may be another folder for the builds.
_OF_THE_CACHE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES),
    *(errno.ENOTDIR, errno.EEXIST),  # a file stands where the folder is to be
    *(errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM),
)


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m caffe_build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--print-prefix",
        action="store_true",
        help="print the folder of the Caffe in use, build nothing",
    )
    parser.add_argument(
        "--gpu",
        type=int,
        choices=(0, 1),
        help="1: the build with CUDA; 0: the one for the CPU "
        "(default: as the last time, at first 0)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="compilers at once (default: one a core)",
    )
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths are printed as they are
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: at least 1 is needed")
    if arguments.print_prefix:
        folder = locate.importable_folder()
        if folder:
            print(locate.prefix_of(folder))
        return 0 if folder else 1
    # SIGTERM interrupts as Ctrl-C does, so that the compilers are stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _provide(arguments.gpu, arguments.jobs)
    except ImportError as error:
        raise CompileError(f"{sys.executable} lacks {error.name}: {python_hint()}") from error
    except OSError as error:
        path = error.filename2 or error.filename  # of two, where it was copied to
        message = f"{error.strerror or error}" + (f": {path}" if path else "")
        if error.errno in _OF_THE_CACHE:
            message += (
                f". Builds are kept in {locate.cache_folder()}; XDG_CACHE_HOME names another folder"
            )
        raise DiskError(message) from error
    return 0


class _Choice(NamedTuple):
    """A build in the cache: its prefix, its name, and the user's source tree if it is of one."""

    prefix: Path
    name: str
    tree: Path | None


def _provide(gpu: int | None, jobs: int) -> None:
    """Make `import caffe` work, with a Caffe named by the user, a found one, or a build."""
    named_prefix, tree = os.environ.get("CAFFE_PREFIX"), os.environ.get("CAFFE_SOURCE")
    if named_prefix:
        folder = locate.python_folder(Path(named_prefix))
        locate.check_linkable(folder)
        _use(folder, f"CAFFE_PREFIX={named_prefix}", gpu, is_linked=True)
        _link(folder)
        return
    cache, importable = locate.cache_folder(), locate.importable_folder()
    # A build of ours may lie in the cache that XDG_CACHE_HOME named before.
    is_own_build = importable is not None and (
        Path(os.path.realpath(cache)) in Path(os.path.realpath(importable)).parents
        or locate.is_linked_build(importable)
    )
    if importable and not is_own_build and not tree:
        is_linked = importable == locate.linked_folder()
        _use(importable, "the caffe that Python finds", gpu, is_linked=is_linked)
    else:
        linked = importable.parent if importable and is_own_build else None
        choice = _from_cache(tree, cache, linked, gpu, jobs)
        _link(choice.prefix / "python", choice.tree)
        of_tree = f", from the source in {choice.tree}" if choice.tree else ""
        print(f"caffe: using {choice.prefix} ({choice.name}{of_tree})")


def _link(folder: Path, tree: Path | None = None) -> None:
    """Make this interpreter import caffe from a folder, and check that it does."""
    locate.link(folder, tree)
    taken = check.imported_folder()
    if taken is None or os.path.realpath(taken) != os.path.realpath(folder):
        raise _hidden(folder, taken)


def _hidden(folder: Path, taken: Path | None) -> PrefixError:
    """Return the error of a folder that Python does not take Caffe from, but from `taken`."""
    return PrefixError(
        f"{folder} was to be used, but `import caffe` takes {taken or 'none'}: "
        "take that out of PYTHONPATH, or leave CAFFE_PREFIX and CAFFE_SOURCE out to use it"
    )


def _use(folder: Path, origin: str, gpu: int | None, *, is_linked: bool) -> None:
    """Check that the Caffe in `folder` works, and say that it is used.

    Args:
        folder: The folder that holds caffe/.
        origin: Why this one is used.
        gpu: The option --gpu.
        is_linked: Whether a .pth file of ours keeps it in use.
    """
    way_back = ""
    if is_linked:
        way_back = f" (to go back: leave CAFFE_PREFIX out and remove {locate.link_path()})"
    if gpu is not None:
        raise PrefixError(
            f"{origin} ({folder}) is used as it is, and --gpu {gpu} (GPU={gpu}) chooses a build "
            f"of ours: take one of them away{way_back}"
        )
    fault = check.fault(folder)
    if fault:
        raise PrefixError(
            f"{origin} ({folder}) does not work: {fault}. "
            f"Mend it, or take it away to have one built{way_back}"
        )
    print(f"caffe: using {origin}: {folder}{way_back}")


def _from_cache(
    tree: str | None, cache: Path, linked: Path | None, gpu: int | None, jobs: int
) -> _Choice:
    """Return the build to use; build it where the cache lacks it."""
    # These are imported only here, since they need packages and system files that someone who
    # brings a Caffe may lack.
    from caffe_build import build, cuda, options, source

    # A Caffe on PYTHONPATH is not the one that the link remembers a source of.
    is_link = linked is None or linked / "python" == locate.linked_folder()
    remembered = locate.linked_tree() if is_link else None
    linked_options = build.options_of(linked) if linked else options.CPU
    # A build from a CAFFE_SOURCE, or with CUDA, stays in use when that is not named again. --gpu 1
    # looks at the machine anew.
    keep = gpu is None or (gpu == 0 and not linked_options.toolkit)
    if linked and not tree and keep and build.is_current(linked) and build.is_usable(linked):
        return _Choice(linked, linked_options.name, remembered)
    caffe_source = _choose_source(tree, remembered, linked)
    # The folder of a build with CUDA, or what the build says of itself, may be gone.
    link = locate.linked_folder()
    in_use = linked or (link.parent if link else None)
    if gpu is None and in_use and build.is_named_cuda(in_use) and not linked_options.toolkit:
        build.say("the Caffe with CUDA is gone, so it is built again; GPU=0 takes one for the CPU")
        gpu = 1
    toolkit = linked_options.toolkit if gpu is None else None
    if gpu:
        toolkit = cuda.find_toolkit(cache)
    build_options = options.gpu(toolkit) if toolkit else options.CPU
    prefix = build.cached_prefix(caffe_source.id, build_options, cache)
    root = caffe_source.root if isinstance(caffe_source, source.Tree) else None
    # Before what takes minutes: a link that cannot be written, or a Caffe that would hide the
    # finished build.
    locate.check_linkable(prefix / "python", root)
    earlier = locate.folder_before_link()
    if earlier and os.path.realpath(earlier) != os.path.realpath(prefix / "python"):
        raise _hidden(prefix / "python", earlier)
    if toolkit:
        cuda.provide(toolkit)
    if not build.is_usable(prefix):
        build.build(caffe_source, build_options, prefix, jobs)
    return _Choice(prefix, build_options.name, root)


def _choose_source(
    tree: str | None, remembered: Path | None, linked: Path | None
) -> "source.Package | source.Tree":
    """Return the source of a new build.

    Args:
        tree: CAFFE_SOURCE, None where it is not given.
        remembered: The tree that the Caffe in use was built from.
        linked: The build in use.
    """
    from caffe_build import build, source

    if tree or not remembered:
        chosen = source.choose_source(tree)
        if linked and not tree and locate.read_about(linked).get("source") != chosen.id:
            build.say(
                "the build in use is of another source than the distribution's package, which is "
                "taken now; CAFFE_SOURCE=DIR takes a tree of yours"
            )
        return chosen
    try:
        return source.choose_source(str(remembered))
    except SourceError as error:
        raise SourceError(
            f"{error}. The Caffe in use was built from it: name a tree with CAFFE_SOURCE=DIR, or "
            f"remove {locate.link_path()} to take the distribution's source"
        ) from error


if __name__ == "__main__":
    run_command(main)
