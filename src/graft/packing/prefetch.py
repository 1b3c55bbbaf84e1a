"""Batches made ahead of the step that reads them, in order, by any number of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")
PER_WORKER = 2  # batches that wait for each worker


def ahead(make: Callable[[int], Made], first: int, last: int, workers: int) -> Iterator[Made]:
    """make(first) .. make(last - 1) in that order; `workers` threads make the next ones meanwhile, 0: nobody does.

    Since `make` is a pure function of the number, the workers decide when a batch is made and never what is in it.
    """
    if not workers:
        yield from map(make, range(first, last))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for k in range(first, last):
                waiting.append(pool.submit(make, k))
                if len(waiting) > PER_WORKER * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever stops reading does not wait for what was not begun
            for one in waiting:
                one.cancel()
