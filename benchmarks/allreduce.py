"""How long the ranks take to average their gradients: `python -m benchmarks.allreduce`.

    python -m benchmarks.allreduce --processes 2       # shared memory, as train --processes
    mpirun -np 2 --bind-to none python -m benchmarks.allreduce              # MPI's shared memory
    mpirun -np 2 --bind-to none --mca btl tcp,self python -m benchmarks.allreduce
    mpirun -np 4 --hostfile hosts --bind-to none python -m benchmarks.allreduce

Prints a Markdown row for each network: the bytes of its gradients, the median time, and the rate
at which a rank's link was used. That is 2 (N - 1) / N x bytes / time, which a ring all-reduce of
N ranks sends and receives at the least.
"""

import statistics
import time

import numpy as np

from mcc_caffe.caffe_io.onnx_model import count_parameters
from mcc_caffe.core.commands import command_parser, positive_int, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.core.ranks import LocalRanks, MpiRanks, Ranks, SharedMemory, started_by_mpirun
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import VARIANTS, Variant
from mcc_caffe.training.launcher import launch

COLUMNS = ["network", "ranks", "MB", "ms, median (least, most)", "GB/s a link"]


def count_gradients(variant: Variant) -> int:
    """Return the number of float32 gradients of a variant's network."""
    return count_parameters(require_shipped(f"prototxt/{variant.name}/deploy.prototxt"))


def measure(ranks: Ranks, sizes: dict[str, int], repeats: int) -> None:
    """Time averages of arrays of each size; rank 0 prints the table.

    Args:
        ranks: The ranks that average.
        sizes: {network: number of its gradients}.
        repeats: Exchanges that count, after one that does not.
    """
    lines = []
    for name, size in sizes.items():
        array, times = np.ones(size, np.float32), []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            ranks.average(array)
            times.append(time.perf_counter() - start)
        assert (array == 1).all()
        times = times[1:]
        median = statistics.median(times)
        ring_bytes = 2 * (ranks.size - 1) / ranks.size * array.nbytes
        milliseconds = f"{1e3 * median:.1f} ({1e3 * min(times):.1f}, {1e3 * max(times):.1f})"
        rate = f"{ring_bytes / median / 1e9:.2f}"
        lines.append([name, ranks.size, f"{array.nbytes / 1e6:.1f}", milliseconds, rate])
    if ranks.rank == 0:
        print(markdown_table(COLUMNS, lines))
    ranks.finish()


def _measure_rank(
    rank: int, ranks: int, shared: SharedMemory, sizes: dict[str, int], repeats: int
) -> None:
    measure(LocalRanks(rank, ranks, shared), sizes, repeats)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--processes",
        type=positive_int,
        default=2,
        help="processes of this machine, where mpirun starts none (default: 2)",
    )
    parser.add_argument(
        "--repeats", type=positive_int, default=20, help="exchanges that count (default: 20)"
    )
    options = parser.parse_args(argv)
    sizes = {variant.name: count_gradients(variant) for variant in VARIANTS.values()}
    if started_by_mpirun():
        measure(MpiRanks(), sizes, options.repeats)
    else:
        count = options.processes
        if count == 1:
            raise UserError("--processes 1: there is nothing to average, give two or more")
        shared = LocalRanks.shared(count)
        launch(_measure_rank, count, count, shared, sizes, options.repeats)


if __name__ == "__main__":
    run_command(main)
