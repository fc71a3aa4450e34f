"""Model batches: of a shape that depends on nothing but the settings, so that no answer depends on its batch mates.

The last bits of a matrix product change with its shape, whatever the dtype. On a CPU in float32 a network that must
not show it sees one picture at a time, which costs little there: SAM's encoder nothing, GroundingDINO a fourth at the
size of the packaged networks and less at real size. In any other dtype batches have the size that the catalog names,
the last one filled up.
"""

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
        yield (batch if dtype == "float32" else fill(batch, size)), len(batch)


def steady_size(size: int, device: str, dtype: str) -> int:
    """How many items a network is to see at once where equal items must give answers equal to the last bit.

    >>> steady_size(8, "cpu", "float32"), steady_size(8, "cpu", "bfloat16"), steady_size(8, "cuda:0", "float32")
    (1, 8, 8)
    """
    return 1 if device == "cpu" and dtype == "float32" else size


def fill(batch: Sequence[ItemT], size: int) -> list[ItemT]:
    """A batch of ``size`` items: as given, then its last one again and again.

    >>> fill("ab", 4)
    ['a', 'b', 'b', 'b']
    """
    return [*batch, *[batch[-1]] * (size - len(batch))]
