"""The processes that train together on one machine, started and ended together."""

import multiprocessing
import multiprocessing.connection
import signal
import time

from mcc_caffe.core.errors import UserError

GRACE = 30.0  # seconds that rank 0 has for a last snapshot when another rank failed


def launch(target, ranks: int, *args) -> None:
    """Runs `target(rank, *args)` in `ranks` processes; when rank 0 has ended, or another failed, all end.

    Ctrl-C and SIGTERM are handed on to rank 0 as SIGTERM. UserError says how a process failed, with its exit code.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=target, args=(rank, *args), name=f"rank {rank}")
        for rank in range(ranks)
    ]
    asked = []

    def ask(number, frame):
        asked.append(number)
        processes[0].terminate()

    for process in processes:
        process.start()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        running, failed = list(processes), None
        while processes[0] in running and not failed:
            multiprocessing.connection.wait([process.sentinel for process in running])
            running = [process for process in running if process.is_alive()]
            failed = next((process for process in processes if process.exitcode), None)
    finally:
        for process in processes:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in processes:
            process.join(max(until - time.monotonic(), 0))
            process.kill()
            process.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked and failed is processes[0] and failed.exitcode == -signal.SIGTERM:
        raise KeyboardInterrupt  # before it had begun
    if failed:
        code = failed.exitcode
        how = (
            f"ended with exit code {code}"
            if code > 0
            else f"was killed by {signal.Signals(-code).name}"
        )
        error = UserError(f"{failed.name} {how}: the other ranks were stopped")
        error.code = code if code > 0 else 128 - code
        raise error
