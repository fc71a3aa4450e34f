"""Model batches: of fixed size where a GPU's kernels would else make results depend on the batch's shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def model_batches(items: Sequence[ItemT], size: int, dtype: str) -> Iterator[tuple[list[ItemT], int]]:
    """Consecutive batches of at most ``size`` items, and how many of each count.

    In any dtype but float32 the last batch is filled up with its own last item, whose results are to be dropped.

    >>> list(model_batches("abc", 2, "bfloat16")), list(model_batches("abc", 2, "float32"))
    ([(['a', 'b'], 2), (['c', 'c'], 1)], [(['a', 'b'], 2), (['c'], 1)])
    """
    for start in range(0, len(items), size):
        batch = list(items[start : start + size])
        count = len(batch)
        if dtype != "float32":
            batch += [batch[-1]] * (size - count)
        yield batch, count
