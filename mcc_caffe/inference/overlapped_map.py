"""Maps over items while threads read the next item and finish the last ones."""

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def overlapped_map(
    source: Iterable[Item], work: Callable[[Item], Any], *finishing_steps: Callable[[Any], Any]
) -> Generator[Any, None, None]:
    """Yield what the last step makes of every item of `source`, in order.

    `work` runs in the caller's thread. Meanwhile one thread takes the next item from `source`, and
    every finishing step has a thread of its own, which takes the items in order. So besides the
    item in work at most one item for each of these threads is in memory. The caller gets an
    exception of any of them. The answers that were being finished at that moment are still
    finished, but not yielded.

    Args:
        source: The items, for instance images that are read as they are asked for.
        work: Computes the answer to an item.
        finishing_steps: At least one. The first takes the answer, each other one what the step
            before it returned; the last one for instance writes it to a file.
    """
    items, finishing = iter(source), collections.deque[Future]()
    first_step, *other_steps = finishing_steps
    with contextlib.ExitStack() as threads:
        reader, first_finisher, *other_finishers = (
            threads.enter_context(ThreadPoolExecutor(1)) for _ in (source, *finishing_steps)
        )
        next_item = reader.submit(next, items, _END)
        while (item := next_item.result()) is not _END:
            next_item = reader.submit(next, items, _END)
            answer = work(item)
            if len(finishing) == len(finishing_steps):
                yield finishing.popleft().result()
            result = first_finisher.submit(first_step, answer)
            for finisher, step in zip(other_finishers, other_steps):
                result = finisher.submit(_continue, step, result)
            finishing.append(result)
        while finishing:
            yield finishing.popleft().result()


def _continue(step: Callable[[Any], Any], result: Future) -> Any:
    """Wait for the result of the step before, and return what this step makes of it."""
    return step(result.result())
