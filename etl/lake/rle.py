"""Measuring COCO's compressed RLE without trusting it: a column at a time, and nothing is read past a string's end.

pycocotools decodes the same strings, but one by one, into full masks, and follows a broken string beyond its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LONGEST = 7  # characters that a run length of 32 bits takes, five bits each
_AT_ONCE = 1 << 20  # bytes of strings that are measured at a time: a hundred times as much memory
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """What the strings of a column say, an element per row.

    Attributes:
        broken: Whether it is no RLE at all: other characters, a number cut off or too long, a negative run.
        pixels: Sum of all runs: the mask's height times its width.
        area: Sum of the runs of set pixels.
    """

    broken: npt.NDArray[np.bool_]
    pixels: Longs
    area: Longs


def measure(column: pa.ChunkedArray) -> Measured:
    """Measure a column of compressed RLEs (strings, none null); memory is bounded however long the column is."""
    data, starts = _bytes(column)
    rows = len(starts) - 1
    measured = Measured(np.zeros(rows, np.bool_), np.zeros(rows, np.int64), np.zeros(rows, np.int64))
    first = 0
    while first < rows:
        after = max(first + 1, int(np.searchsorted(starts, starts[first] + _AT_ONCE, "right")) - 1)
        _measure(data[starts[first] : starts[after]], np.diff(starts[first : after + 1]), measured, first)
        first = after
    return measured


def _measure(data: npt.NDArray[np.uint8], lengths: Longs, into: Measured, first: int) -> None:
    """Measure the strings that lie one after another in ``data``; the rows ``first`` and on of ``into`` take them."""
    broken = into.broken[first : first + len(lengths)]
    rows = np.flatnonzero(lengths)  # those of no byte have no number: nothing is measured there
    if not len(rows):
        return
    values, heads = _numbers(data, np.cumsum(lengths[rows]), rows, broken)
    counts = np.diff(np.append(heads, len(values)))
    order = np.arange(len(values)) - np.repeat(heads, counts)  # position of a number in its string
    runs = _undo_differences(values, order, heads, counts)
    broken[rows[np.minimum.reduceat(runs, heads) < 0]] = True
    into.pixels[first + rows] = np.add.reduceat(runs, heads)
    into.area[first + rows] = np.add.reduceat(np.where(order & 1, runs, 0), heads)  # clear pixels come first


def _bytes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], Longs]:
    """All bytes of a column of strings, and where each string starts, and the last one ends."""
    strings = column.combine_chunks().cast(pa.large_binary())
    if isinstance(strings, pa.ChunkedArray):  # of no chunks
        return np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int64)
    _, offsets, data = strings.buffers()
    starts = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    taken = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]] if data is not None else np.empty(0, np.uint8)
    return taken, starts - starts[0]


def _numbers(
    data: npt.NDArray[np.uint8], stops: Longs, rows: Longs, broken: npt.NDArray[np.bool_]
) -> tuple[Longs, Longs]:
    """The signed numbers of all strings, and which of them are the first of theirs; marks strings that are broken.

    Args:
        data: The bytes of all strings, none of them empty.
        stops: Where each string ends in them.
        rows: The row of each string in ``broken``.
        broken: Set where a string is none.
    """
    codes = data - np.uint8(48)  # six bits: five of the number, lowest first, and whether more follow
    final = (codes & 32) == 0
    wrong = codes > 63
    wrong[stops - 1] |= ~final[stops - 1]
    final[stops - 1] = True  # a number that is cut off ends with its string
    ends = np.flatnonzero(final)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    digit = np.arange(len(codes)) - np.repeat(starts, lengths)
    wrong |= digit >= _LONGEST
    broken[rows[np.logical_or.reduceat(wrong, np.append(0, stops[:-1]))]] = True
    digit = np.minimum(digit, _LONGEST)
    values = np.add.reduceat((codes & 31).astype(np.int64) << (5 * digit), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * (digit[ends] + 1)), 0)  # the last digit carries the sign
    return values, np.searchsorted(starts, np.append(0, stops[:-1]))


def _undo_differences(values: Longs, order: Longs, heads: Longs, counts: Longs) -> Longs:
    """Run lengths: from the fourth on, a number is the difference to the run before last of its string."""
    runs = values.copy()
    for parity in (0, 1):
        chain = (order & 1 == parity) & (order > 0)  # the very first number is in neither chain
        total = np.cumsum(np.where(chain, values, 0))
        before = np.where(heads > 0, total[heads - 1], 0)
        runs = np.where(chain, total - np.repeat(before, counts), runs)
    return runs
