"""What the checks of one run share: a pinned look at the tables, what is known of units, what was taken down.

A check runs beside writers, so whatever it compares must be read in an order in which no honest write looks broken:
outcomes before the rows they belong to, annotators after whatever names them, and a unit counts as closed by the
pinned version alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Literal, Self

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
    """One run of the checks; leave it as a context, which closes its connection.

    Args:
        lake: The lake.
        scope: How far they go.

    Attributes:
        broken: Keys of data files found missing or broken: the checks of rows go on without them, and so tell what is
            lost with them.
    """

    def __init__(self, lake: Lake, scope: Scope) -> None:
        self.lake, self.scope = lake, scope
        self.broken: set[str] = set()
        self._stack = ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

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
        """A connection with the views, ``raw``, ``gone`` (image_id, purged) and ``known`` (annotator_id).

        All checks share one: what is read of a file is read of the same file, and opening it takes longer than most.

        Raises:
            GroundlakeError: A file is gone or broken, or memory, disk or store failed; see ``Snapshot.connect``.
        """
        try:
            if self._connection is None:
                self._connection = self._stack.enter_context(self.readable().connect())
                self._prepare(self._connection)
            yield self._connection
        except duckdb.Error as error:
            self._connection = None
            self._stack.__exit__(type(error), error, error.__traceback__)  # the snapshot says what it means
            raise

    def readable(self) -> Snapshot:
        """The same state without the files that are broken."""
        broken = {self.lake.store.join(key) for key in self.broken}
        files = {name: [uri for uri in uris if uri not in broken] for name, uris in self.snapshot.files.items()}
        return replace(self.snapshot, files=files)

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(_GONE)
        # Promotions register an annotator, then make it current: the snapshot may lie between the two.
        connection.register("known", self.lake.table("annotators").to_pyarrow_table(columns=["annotator_id"]))


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
