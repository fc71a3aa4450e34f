"""Taking rows out of the files of a table's present version: one rewrite per touched file, whatever runs beside it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from etl.lake.ids import digest
from etl.lake.lake import Lake
from etl.lake.maintenance import Change, DataFile, data_files, read_batches, rewrite
from etl.lake.parts import Part
from etl.lake.schemas import TABLES
from etl.lake.takedown.scan import Hit, Scan

BATCH_BYTES, BATCH_FILES = 256 << 20, 64  # replaced by one transaction; what it loses to another one is done again
_KEPT_BUT_REFUSED = "downloads"
_REFUSED = {"status": "failed", "error_class": "taken_down", "error": "the picture was taken down", "image_id": None}


@dataclass(frozen=True)
class Cut:
    """What goes from one table: the rows whose ``column`` is among ``values``.

    Attributes:
        table: The table.
        column: An id of the row.
        values: What to look for.
        shards: Shards that such rows belong to; None when they may be of any.
        before: Told about rows that are about to vanish.
    """

    table: str
    column: str
    values: frozenset[str]
    shards: frozenset[str] | None = None
    before: Callable[[pa.Table], None] | None = None

    @cached_property
    def _wanted(self) -> pa.Array:
        return pa.array(sorted(self.values), pa.string())

    def leaves(self, one: DataFile, hit: Hit) -> bool:
        """Whether anything takes the place of a file."""
        return self.table == _KEPT_BUT_REFUSED or hit.rows < one.rows

    def apply(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows that take the place of ``rows``, and those of ``rows`` that are not among them.

        Of ``downloads`` every url keeps its row, so that counts add up: it failed because it was taken down.
        """
        doomed = pc.is_in(rows[self.column], value_set=self._wanted)
        gone = rows.filter(doomed)
        if self.before and gone.num_rows:
            self.before(gone)
        return (_refuse(rows, doomed) if self.table == _KEPT_BUT_REFUSED else rows.filter(pc.invert(doomed))), gone


class Sifted:
    """The rows that take the place of a file, a batch at a time; ``gone`` counts the others by their value."""

    def __init__(self, lake: Lake, cut: Cut, one: DataFile) -> None:
        self._lake, self._cut, self._one = lake, cut, one
        self.gone: Counter[str] = Counter()

    def __iter__(self) -> Iterator[pa.Table]:
        self.gone.clear()
        for rows in read_batches(self._lake, self._cut.table, self._one):
            kept, gone = self._cut.apply(rows)
            for pair in pc.value_counts(gone[self._cut.column].combine_chunks()).to_pylist():
                self.gone[pair["values"]] += pair["counts"]
            if kept.num_rows:
                yield kept

    def drain(self) -> None:
        """See all rows, where none is kept."""
        for _ in self:
            pass


@dataclass
class Removed:
    """What was done to a table: files replaced, and per value the rows that are not in their new files."""

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)

    def add(self, replaced: Iterable[Replaced]) -> None:
        """Note files that were replaced."""
        for one in replaced:
            self.files += 1
            self.rows.update(one.gone)


@dataclass(frozen=True)
class Replaced:
    """A file, what took its place (None when no row was left), and the rows that did not come along, by value."""

    old: str
    new: str | None
    gone: Counter[str]


def cut_active(scan: Scan, cut: Cut) -> Removed:
    """Replace every file of the table's present version that holds such rows, and remember what replaced it.

    Safe beside appends, compactions and itself: a refused change is made again on the files that are there then.

    Raises:
        RewriteConflictError: Other rewrites were faster every time.
        DataError: A file has other rows than the log says.
    """
    work = _ActiveCut(scan, cut)
    if cut.values and (cut.shards is None or cut.shards):
        rewrite(scan.lake, cut.table, work.step, work.done)
    return work.removed


class _ActiveCut:
    def __init__(self, scan: Scan, cut: Cut) -> None:
        self._scan, self._cut = scan, cut
        self._seen: dict[str, Hit | None] = {}  # files never change: one look is enough
        self._batch: list[tuple[str, bool, Sifted]] = []  # path, whether rows are left, and which
        self.removed = Removed()

    def step(self, handle: DeltaTable) -> Change | None:
        """The next files to replace."""
        lake, cut = self._scan.lake, self._cut
        files = possible_files(handle, cut.shards)
        unseen = [one.path for one in files if one.path not in self._seen]
        hits = self._scan.hits(cut.table, unseen, cut.column, cut.values, cut.shards)
        self._seen.update((path, hits.get(path)) for path in unseen)
        chosen = batched([one for one in files if self._seen[one.path]])
        self._batch = []
        for one in chosen:
            hit, sifted = self._seen[one.path], Sifted(lake, cut, one)
            left = hit is not None and cut.leaves(one, hit)
            if not left:
                sifted.drain()
            self._batch.append((one.path, left, sifted))
        return Change(chosen, [sifted for _, left, sifted in self._batch if left]) if chosen else None

    def done(self, _: Change, parts: list[Part]) -> None:
        """The files are replaced."""
        new = iter(parts)
        replaced = [Replaced(path, next(new).path if left else None, rows.gone) for path, left, rows in self._batch]
        # Killed before this line: the old files are found again among those that no present version names.
        remember(self._scan.lake, self._cut.table, replaced)
        self.removed.add(replaced)


def possible_files(handle: DeltaTable, shards: Collection[str] | None) -> list[DataFile]:
    """The files of a version that may hold rows of some shards, by the statistics in the log."""
    if shards is None:
        return data_files(handle)
    actions = pa.table(handle.get_add_actions(flatten=True))
    if not {"min.shard_id", "max.shard_id"} <= set(actions.column_names):  # of an empty table
        return data_files(handle)
    ordered = sorted(shards)
    spans = zip(*(actions[column].to_pylist() for column in ("path", "min.shard_id", "max.shard_id")), strict=True)
    possible = {unquote(path) for path, low, high in spans if _meets(ordered, low, high)}
    return [one for one in data_files(handle) if one.path in possible]


def _meets(ordered: Sequence[str], low: str | None, high: str | None) -> bool:
    if low is None or high is None:  # another writer's file, without statistics
        return True
    place = bisect_left(ordered, low)
    return place < len(ordered) and ordered[place] <= high


def batched(files: Sequence[DataFile]) -> list[DataFile]:
    """The first files, which one transaction replaces."""
    chosen: list[DataFile] = []
    size = 0
    for one in files[:BATCH_FILES]:
        if chosen and size + one.size > BATCH_BYTES:
            break
        chosen.append(one)
        size += one.size
    return chosen


def remember(lake: Lake, table: str, replaced: Iterable[Replaced]) -> None:
    """Note in ``rewrites`` what took the place of files; a replay adds nothing."""
    now = datetime.now(UTC)
    rows = [
        {"table_name": table, "old_path": one.old, "new_path": one.new, "rows_removed": one.gone.total()}
        | {"rewritten_at": now}
        for one in replaced
    ]
    lake.append("rewrites", rows, digest("rewrites", table, sorted(str(row["old_path"]) for row in rows)))


def _refuse(rows: pa.Table, doomed: pa.ChunkedArray) -> pa.Table:
    for name, value in _REFUSED.items():
        field_ = TABLES[_KEPT_BUT_REFUSED].schema.field(name)
        column = pc.if_else(doomed, pa.scalar(value, field_.type), rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), field_, column)
    return rows
