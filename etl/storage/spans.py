"""Spans of an object, as (offset, length) in bytes: which to read together, which overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Span = tuple[int, int]


@dataclass
class Window:
    """A span that covers others.

    Attributes:
        offset: Its first byte.
        length: Its bytes.
        members: Positions, in the sequence it was made from, of the spans that it covers.
    """

    offset: int
    length: int
    members: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


def windows(spans: Sequence[Span], *, gap: int = 0, limit: int | None = None) -> list[Window]:
    """As few windows as cover all spans that are not empty, by offset.

    Args:
        spans: In any order; they may overlap.
        gap: Spans with at most so many bytes between them share a window.
        limit: The largest window to make of several spans, in bytes; none by default.

    Raises:
        ValueError: An offset or a length is negative.

    >>> [(one.offset, one.length, one.members) for one in windows([(6, 2), (0, 3), (2, 2), (9, 0)])]
    [(0, 4, [1, 2]), (6, 2, [0])]
    """
    made: list[Window] = []
    for position in sorted(range(len(spans)), key=lambda n: spans[n]):
        offset, length = spans[position]
        if offset < 0 or length < 0:
            raise ValueError(f"no span of an object: offset {offset}, length {length}")
        if not length:
            continue
        last = made[-1] if made else None
        end = max(last.end, offset + length) if last else 0
        if last and offset <= last.end + gap and (limit is None or end - last.offset <= limit):
            last.length = end - last.offset
            last.members.append(position)
        else:
            made.append(Window(offset, length, [position]))
    return made


def blocks(offset: int, length: int, size: int) -> Iterable[Span]:
    """A span in pieces of at most ``size`` bytes.

    >>> list(blocks(5, 7, 3))
    [(5, 3), (8, 3), (11, 1)]
    """
    return ((at, min(size, offset + length - at)) for at in range(offset, offset + length, size))
