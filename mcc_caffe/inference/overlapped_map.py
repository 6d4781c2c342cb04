"""Maps over items while one thread reads the next item and another finishes the last."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

_END: Any = object()


def overlapped_map(
    source: Iterable[Item], work: Callable[[Item], Answer], finish: Callable[[Answer], Result]
) -> Generator[Result, None, None]:
    """Yield finish(work(item)) for every item of `source`, in order.

    `work` runs in the caller's thread. Meanwhile one thread takes the next item from `source`, and
    another finishes the last answer, so that besides the item in work at most two are in memory.
    The caller gets an exception of any of the three; the answer that was being finished at that
    moment is still finished.

    Args:
        source: The items, for instance images that are read as they are asked for.
        work: Computes the answer to an item.
        finish: Makes the result of an answer, for instance writes it to a file.
    """
    items, finishing = iter(source), None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        next_item = reader.submit(next, items, _END)
        while (item := next_item.result()) is not _END:
            next_item = reader.submit(next, items, _END)
            answer = work(item)
            if finishing:
                yield finishing.result()
            finishing = writer.submit(finish, answer)
        if finishing:
            yield finishing.result()
