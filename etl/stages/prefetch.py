"""Work done by threads ahead of its consumer, in order, within a bound of items and of weight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

InT = TypeVar("InT")
OutT = TypeVar("OutT")


class Prefetcher(Generic[InT, OutT]):
    """Applies a function in threads and yields its results in order.

    Args:
        work: The function; what it raises is raised where its result is taken.
        threads: Threads that run it.
        ahead: Results that may be ready or in work at once.
        weigh: Weight of an input, such as its pixels.
        max_weight: Weight that may be ready or in work at once; one input is always let through.
    """

    def __init__(
        self,
        work: Callable[[InT], OutT],
        *,
        threads: int,
        ahead: int,
        weigh: Callable[[InT], int] = lambda _: 0,
        max_weight: int = 1,
    ) -> None:
        self._work, self._weigh = work, weigh
        self._threads, self._ahead, self._max_weight = threads, max(1, ahead), max_weight
        self.waited = 0.0  # seconds the consumer waited for a result

    def over(self, inputs: Iterable[InT]) -> Iterator[tuple[InT, OutT]]:
        """Every input with its result, in order; the threads end with the iterator."""
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        queue: deque[tuple[InT, int, Future[OutT]]] = deque()
        weight, source = 0, iter(inputs)
        waiting = next(source, None)
        try:
            while waiting is not None or queue:
                while waiting is not None and (not queue or self._fits(len(queue), weight + self._weigh(waiting))):
                    weight += self._weigh(waiting)
                    queue.append((waiting, self._weigh(waiting), pool.submit(self._work, waiting)))
                    waiting = next(source, None)
                first, its_weight, future = queue.popleft()
                start = time.monotonic()
                result = future.result()
                self.waited += time.monotonic() - start
                weight -= its_weight
                yield first, result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fits(self, count: int, weight: int) -> bool:
        return count < self._ahead and weight <= self._max_weight
