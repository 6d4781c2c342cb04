"""How long the ranks take to average their gradients: `python -m benchmarks.allreduce`, or under mpirun.

    python -m benchmarks.allreduce --processes 2                            # shared memory, as train --processes uses it
    mpirun -np 2 --bind-to none python -m benchmarks.allreduce              # MPI's shared memory
    mpirun -np 2 --bind-to none --mca btl tcp,self python -m benchmarks.allreduce
    mpirun -np 4 --hostfile hosts --bind-to none python -m benchmarks.allreduce

Prints a Markdown row for each network: the bytes of its gradients, the median time, and the rate at which a rank's link was
used, 2 (N - 1) / N x bytes / time, which a ring all-reduce of N ranks sends and receives at the least.
"""

import argparse
import statistics
import time

import numpy as np

from mcc_caffe.caffe_io.pycaffe import import_caffe, parameter_count
from mcc_caffe.core.commands import positive, run_command
from mcc_caffe.core.files import shipped
from mcc_caffe.core.ranks import LocalRanks, MpiRanks, Ranks, started_by_mpirun
from mcc_caffe.paper import VARIANTS
from mcc_caffe.training.launch import launch


def parameters(variant) -> int:
    """The number of float32 gradients of a variant's network."""
    net = import_caffe().Net(str(shipped(f"prototxt/{variant.name}/deploy.prototxt")), 1)
    return parameter_count(net)


def measure(ranks: Ranks, sizes: dict, repeats: int) -> None:
    """Times `repeats` averages of each size, after one that does not count; rank 0 prints."""
    rows = [
        "| network | ranks | MB | ms, median (least, most) | GB/s a link |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, size in sizes.items():
        array, times = np.ones(size, np.float32), []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            ranks.average(array)
            times.append(time.perf_counter() - start)
        assert (array == 1).all()
        median, moved = (
            statistics.median(times[1:]),
            2 * (ranks.size - 1) / ranks.size * array.nbytes,
        )
        shown = f"{1e3 * median:.1f} ({1e3 * min(times[1:]):.1f}, {1e3 * max(times[1:]):.1f})"
        rows.append(
            f"| {name} | {ranks.size} | {array.nbytes / 1e6:.1f} | {shown} | {moved / median / 1e9:.2f} |"
        )
    if ranks.rank == 0:
        print("\n".join(rows))
    ranks.finish()


def _rank(rank: int, ranks: int, shared: tuple, sizes: dict, repeats: int) -> None:
    measure(LocalRanks(rank, ranks, shared), sizes, repeats)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=2,
        help="of this machine, where mpirun starts none (default: 2)",
    )
    parser.add_argument(
        "--repeats", type=positive, default=20, help="exchanges that count (default: 20)"
    )
    options = parser.parse_args(argv)
    sizes = {variant.name: parameters(variant) for variant in VARIANTS.values()}
    if started_by_mpirun():
        measure(MpiRanks(), sizes, options.repeats)
    else:
        launch(
            _rank,
            options.processes,
            options.processes,
            LocalRanks.shared(options.processes),
            sizes,
            options.repeats,
        )


if __name__ == "__main__":
    run_command(main)
