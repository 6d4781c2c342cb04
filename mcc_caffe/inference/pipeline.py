"""Reading, working and writing at the same time, in order, with few things in memory."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

_END = object()


def pipelined(source: Iterable, work: Callable, finish: Callable) -> Iterator:
    """Yields finish(work(item)) for the items of `source`, in their order.

    `work` runs in the caller's thread; meanwhile one thread takes the next item from `source` and another finishes the one before:
    besides the item that is worked on, no more than two are held. An exception of any of the three is the caller's; what was being
    finished then still is.
    """
    items, finishing = iter(source), None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        coming = reader.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = reader.submit(next, items, _END)
            done = work(item)
            if finishing:
                yield finishing.result()
            finishing = writer.submit(finish, done)
        if finishing:
            yield finishing.result()
