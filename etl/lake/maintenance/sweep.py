"""Removing what killed processes left behind, after days in which nobody came back to it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from etl.errors import ConfigurationError
from etl.lake.lake import Lake
from etl.lake.maintenance.broom import Broom, Taken
from etl.lake.maintenance.dead import sweep_dead_units
from etl.lake.maintenance.orphans import sweep_orphan_parts, sweep_orphan_tars, sweep_url_lists
from etl.lake.maintenance.progress import Tell, silent
from etl.lake.maintenance.scratch import sweep_scratch, sweep_store

# Tars come after the parts that name them.
_STEPS: tuple[Callable[[Broom], None], ...] = (
    sweep_dead_units,
    sweep_orphan_parts,
    sweep_orphan_tars,
    sweep_url_lists,
    sweep_store,
    sweep_scratch,
)


@dataclass(frozen=True)
class Swept:
    """What a sweep removed, or would: how many of each kind and their bytes; kinds without any are absent.

    Kinds: dead orders, rows of dead orders, parts of dead orders, records of dead orders, orphan parts, orphan tars,
    url lists, temporary files of the store (their bytes are not known), scratch folders.
    """

    taken: Mapping[str, Taken]

    @property
    def bytes(self) -> int:
        """Bytes of all kinds together."""
        return sum(one.bytes for one in self.taken.values())


def sweep(
    lake: Lake,
    *,
    days: int | None = None,
    dry_run: bool = False,
    now: float | None = None,
    tell: Tell = silent,
) -> Swept:
    """Remove dead orders with all that is left of them, files that nothing names, and old temporary files.

    May run beside anything and beside itself; killed anywhere, the next sweep goes on.

    Args:
        lake: The lake.
        days: Days without progress after which an order is dead; the setting by default, never less than one. Files
            that nothing names are left for a week at least.
        dry_run: Change nothing, only count.
        now: Seconds; by default the store is asked what time it is there.
        tell: Told how many of the steps are done.

    Raises:
        ConfigurationError: Less than a day, or a version that a manifest pins cannot be opened.
        StorageError: The store failed.
    """
    days = lake.settings.sweep_days if days is None else days
    if days < 1:
        raise ConfigurationError(
            f"a sweep after {days} days would take orders that are being worked on", remedy="choose 1 day or more"
        )
    if now is None:
        now = time.time() if dry_run else _store_time(lake)
    broom = Broom(lake, now, days, dry_run)
    for number, step in enumerate(_STEPS, start=1):
        step(broom)
        tell(number, len(_STEPS))
    return Swept(broom.taken)


def _store_time(lake: Lake) -> float:
    """What time it is for the store, whose clock dates all files: ours may be days off."""
    key = f"probe-{uuid.uuid4().hex}"
    lake.store.put(key, b"what time is it?")
    try:
        found = lake.store.stat(key)
    finally:
        lake.store.delete(key)
    return found.modified if found else time.time()
