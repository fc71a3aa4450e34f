"""What the checks of one run share: a pinned look at the tables, what is known of units, what was taken down.

A check runs beside writers, so whatever it compares must be read in an order in which no honest write looks broken:
outcomes before the rows they belong to, annotators after whatever names them, and a unit counts as closed by the
pinned version alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Literal

import duckdb

from etl.lake.check.findings import Scope
from etl.lake.commit import COMMITTED, FENCED
from etl.lake.lake import Lake
from etl.lake.snapshot import Snapshot
from etl.lake.units import LAST, OpenUnit, open_units, stale_units

UnitState = Literal["closed", "open", "dead", "fenced", "unknown"]

# Every image that is taken down, and whether a takedown that reached it says purged: rows of it are then an error.
_GONE = """
create temp table gone as
with said as (
    select takedown_id, bool_or(event = 'purged') as purged from raw.takedown_events group by takedown_id),
tombs as (
    select t.kind, t.value, coalesce(s.purged, false) as purged
    from raw.takedowns t left join said s using (takedown_id))
select image_id, bool_or(purged) as purged from (
    select value as image_id, purged from tombs where kind = 'image_id'
    union all select s.image_id, t.purged from raw.sightings s
        join tombs t on t.kind = 'url_sha256' and t.value = left(sha256(s.url), 32)
    union all select s.image_id, t.purged from raw.sightings s
        join tombs t on t.kind = 'source_sha256' and t.value = s.source_sha256)
group by image_id
"""


class Bench:
    """One run of the checks.

    Args:
        lake: The lake.
        scope: How far they go.
    """

    def __init__(self, lake: Lake, scope: Scope) -> None:
        self.lake, self.scope = lake, scope

    @cached_property
    def snapshot(self) -> Snapshot:
        """The tables that this run looks at, all at one state."""
        return Snapshot.take(self.lake)

    @cached_property
    def units(self) -> Units:
        """What is known of units."""
        return Units(self.lake, self.snapshot.versions)

    @property
    def tables(self) -> list[str]:
        """The tables of the scope that this lake has."""
        return [name for name in self.scope.tables if self.lake.has(name)]

    def has(self, *tables: str) -> bool:
        """Whether the scope names one of these tables."""
        return any(table in self.scope.tables for table in tables)

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the views, ``raw``, ``gone`` (image_id, purged) and ``known`` (annotator_id)."""
        with self.snapshot.connect() as connection:
            connection.execute(_GONE)
            # Promotions register an annotator, then make it current: the snapshot may lie between the two.
            known = self.lake.table("annotators").to_pyarrow_table(columns=["annotator_id"])
            connection.register("known", known)
            yield connection


class Units:
    """Whether units are closed, at the pinned versions, or still open.

    Args:
        lake: The lake.
        versions: The pinned versions.

    Attributes:
        open: Units that were begun and are open.
        dead: Keys of open ones without progress for the sweep's days.
        half_swept: Keys of fenced ones of which something is left.
    """

    def __init__(self, lake: Lake, versions: Mapping[str, int]) -> None:
        self._pinned = [lake.table(name, versions[name]) for name in LAST]
        self.open: dict[str, OpenUnit] = {unit.key: unit for unit in open_units(lake)}
        self._now = [lake.table(name) for name in LAST]
        stale = stale_units(lake, time.time() - lake.settings.sweep_days * 86_400)
        self.dead = {unit.key for unit in stale if not unit.fenced}
        self.half_swept = {unit.key for unit in stale if unit.fenced}

    def state(self, key: str) -> UnitState:
        """Whether it is committed (closed), open, open without progress for days (dead), fenced, or of no order."""
        if any(table.transaction_version(key) == COMMITTED for table in self._pinned):
            return "closed"
        now = {table.transaction_version(key) for table in self._now}
        if COMMITTED in now:  # since it was pinned
            return "open"
        if FENCED in now:
            return "fenced"
        if key in self.dead:
            return "dead"
        return "open" if key in self.open else "unknown"
