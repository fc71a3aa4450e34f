"""What a sweep takes away, counted by kind; in a dry run it is only counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from etl.lake.lake import Lake

DAY = 24 * 3600.0
# However few days are asked for: a process that was stopped in the middle of a write may wake up that much later.
MIN_PART_DAYS = 7


@dataclass(frozen=True)
class Taken:
    """How many things of a kind, and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass
class Broom:
    """One sweep.

    Attributes:
        lake: The lake.
        now: Seconds, as the store tells time: ages never mix two clocks.
        days: Days without progress after which an order is dead.
        dry_run: Count only.
        taken: What was taken, by kind.
        gone: Keys that were deleted, or would be.
    """

    lake: Lake
    now: float
    days: int
    dry_run: bool
    taken: dict[str, Taken] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    @property
    def dead_before(self) -> float:
        """Orders without progress since then are dead."""
        return self.now - self.days * DAY

    @property
    def lost_before(self) -> float:
        """Files that nothing names and that were last changed before then are lost."""
        return self.now - max(self.days, MIN_PART_DAYS) * DAY

    @property
    def stale_before(self) -> float:
        """Temporary files that were last changed before then have no writer any more."""
        return self.now - DAY

    def count(self, kind: str, count: int = 1, size: int = 0) -> None:
        """Note what was taken."""
        known = self.taken.get(kind, Taken())
        self.taken[kind] = Taken(known.count + count, known.bytes + size)

    def take(self, kind: str, key: str, size: int) -> None:
        """Delete an object."""
        if not self.dry_run:
            self.lake.store.delete(key)
        self.gone.add(key)
        self.count(kind, 1, size)

    def take_all(self, kind: str, prefix: str, keep: Iterable[str] = ()) -> None:
        """Delete every object below a prefix, but for some keys."""
        kept = set(keep)
        for found in list(self.lake.store.list(prefix)):
            if found.key not in kept:
                self.take(kind, found.key, found.size)
