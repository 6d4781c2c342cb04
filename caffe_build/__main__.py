"""Makes `import caffe` work in this interpreter, the quickest way there is:

    python -m caffe_build                            use the Caffe that is there, else one built before, else build one
    CAFFE_PREFIX=DIR python -m caffe_build           use the Caffe that you built in DIR
    CAFFE_SOURCE=DIR python -m caffe_build           build from the source tree in DIR (which stays as it is)
    python -m caffe_build --gpu 1                    a build with CUDA, cuDNN and NCCL, with the machine's nvcc
    python -m caffe_build --print-prefix             only say which Caffe `import caffe` takes

What you name counts before what is found. A Caffe that Python finds already, from PYTHONPATH say, is used as it is.
Builds are kept in ~/.cache/mcc-caffe (under XDG_CACHE_HOME if that is set), so that another clone needs seconds.

A build with CUDA stays in use until --gpu 0 goes back to the one for the CPU. It is compiled for the machine's GPUs, or for
those of CUDA_ARCH="80;90"; CUDA_TOOLKIT_ROOT=DIR names another toolkit than nvcc's on PATH, CUDAHOSTCXX=g++-14 another
compiler for nvcc.

Exit codes: 0 done, 1 no Caffe to print, 2 bad arguments, 3 the Caffe named or found does not work, 4 no source, 5 an edit
did not fit the source, 6 a tool or a library is missing, or compiling failed, 7 the built Caffe does not work, 8 disk full or not
writable, 130 interrupted (the next run goes on).
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from caffe_build import check, locate
from caffe_build.errors import CompileError, DiskError, PrefixError, run_command


def main() -> int:
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
        help="1: the build with CUDA; 0: the one for the CPU (default: as the last time, at first 0)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="compilers at once (default: one a core)",
    )
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: at least 1 is needed")
    if arguments.print_prefix:
        found = locate.importable_folder()
        if found:
            print(locate.prefix_of(found))
        return 0 if found else 1
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # so that the compilers are stopped, too
    try:
        _provide(arguments.gpu, arguments.jobs)
    except ImportError as error:
        raise CompileError(
            f"{sys.executable} lacks {error.name}: run caffe_build/setup.sh and use .venv/bin/python"
        ) from error
    except OSError as error:
        raise DiskError(
            f"{error.strerror}: {error.filename}. Builds are kept in {locate.cache_folder()}; XDG_CACHE_HOME names another place"
        ) from error
    return 0


def _provide(gpu: int | None, jobs: int) -> None:
    named, tree, cache = (
        os.environ.get("CAFFE_PREFIX"),
        os.environ.get("CAFFE_SOURCE"),
        locate.cache_folder(),
    )
    found = locate.importable_folder()
    cached = found is not None and cache.resolve() in found.resolve().parents
    if named:
        _use(locate.python_folder(Path(named)), f"CAFFE_PREFIX={named}", gpu)
        locate.link(locate.python_folder(Path(named)))
    elif found and not cached and not tree:
        _use(found, "the caffe that Python finds", gpu)
    else:
        prefix, name = _from_cache(tree, cache, found.parent if cached else None, gpu, jobs)
        locate.link(prefix / "python")
        print(f"caffe: using {prefix} ({name})")


def _use(folder: Path, origin: str, gpu: int | None) -> None:
    if gpu is not None:
        raise PrefixError(
            f"{origin} ({folder}) is used as it is, and --gpu {gpu} (GPU={gpu}) chooses a build of ours: take one of them away"
        )
    fault = check.fault(folder)
    if fault:
        raise PrefixError(
            f"{origin} ({folder}) does not work: {fault}. Mend it, or take it away to have one built"
        )
    print(f"caffe: using {origin}: {folder}")


def _from_cache(
    tree: str | None, cache: Path, linked: Path | None, gpu: int | None, jobs: int
) -> tuple[Path, str]:
    # Imported only here: these need packages and system files that someone who brings a Caffe may lack.
    from caffe_build import build, cuda, options, source

    in_use = build.options_of(linked) if linked else options.CPU
    # What was built from a CAFFE_SOURCE, or with CUDA, stays in use when that is not named again; --gpu 1 looks at the machine anew.
    keep = gpu is None or gpu == 0 and not in_use.toolkit
    if linked and not tree and keep and build.is_current(linked) and build.is_usable(linked):
        return linked, in_use.name
    wanted, way = source.choose_source(tree), options.CPU
    toolkit = cuda.find_toolkit(cache) if gpu else in_use.toolkit if gpu is None else None
    if toolkit:
        cuda.provide(toolkit)
        way = options.gpu(toolkit)
    prefix = build.cached_prefix(wanted.id, way, cache)
    if not build.is_usable(prefix):
        build.build(wanted, way, prefix, jobs)
    return prefix, way.name


if __name__ == "__main__":
    run_command(main)
