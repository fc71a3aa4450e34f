"""Taking rows out of a table by a text column: files that hold nothing else go, others are written without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from etl.lake.lake import Lake
from etl.lake.maintenance.columns import count_rows
from etl.lake.maintenance.files import DataFile, data_files, read_batches
from etl.lake.maintenance.progress import Tell, silent
from etl.lake.maintenance.rewrite import Change, rewrite
from etl.lake.parts import Part


@dataclass(frozen=True)
class Removal:
    """Rows that leave a table, and the files that held them.

    Attributes:
        table: The table.
        rows: Rows that leave.
        files: The files that leave with them; some come back without those rows.
        bytes: Bytes by which the files of the table's present version shrink. For a plan: bytes of the files that go
            without being written again; what is left of the others is not known yet.
    """

    table: str
    rows: int = 0
    files: tuple[DataFile, ...] = ()
    bytes: int = 0


@dataclass
class Sieve:
    """Which rows leave: those with one of ``values`` in ``column``.

    Attributes:
        lake: The lake.
        table: The table.
        column: A text column.
        values: What leaves.
        guess: Of a file, without reading it: all of its rows leave (True), none (False), or it must be looked at.
    """

    lake: Lake
    table: str
    column: str
    values: Collection[str]
    guess: Callable[[DataFile], bool | None]
    _known: dict[str, int] = field(default_factory=dict)  # files never change: one look is enough

    def count(self, one: DataFile) -> int:
        """How many rows of a file leave."""
        if one.path not in self._known:
            guess = self.guess(one)
            if guess is None:
                self._known[one.path] = count_rows(self.lake, self.table, one.path, self.column, self.values)
            else:
                self._known[one.path] = one.rows if guess else 0
        return self._known[one.path]

    def kept(self, one: DataFile) -> Iterator[pa.Table]:
        """The rows of a file that stay, in their order."""
        leaving = pa.array(sorted(self.values), pa.string())
        for rows in read_batches(self.lake, self.table, one):
            yield rows.filter(pc.invert(pc.is_in(rows[self.column], value_set=leaving)))


def plan_removal(sieve: Sieve) -> Removal:
    """What ``remove_rows`` would do; changes nothing."""
    found = [(one, n) for one in data_files(sieve.lake.table(sieve.table)) if (n := sieve.count(one))]
    whole = sum(one.size for one, n in found if n == one.rows)
    return Removal(sieve.table, sum(n for _, n in found), tuple(one for one, _ in found), whole)


def remove_rows(sieve: Sieve, tell: Tell = silent) -> Removal:
    """Take the rows out of the table's present version; older versions keep them until vacuum.

    Files that hold nothing else leave together in one change; each other file is written again, once, whatever the
    number of ``values``. Memory holds one encoded file. May run beside anything, and again after being killed.

    Args:
        sieve: Which rows.
        tell: Told how many of the files are done.

    Raises:
        RewriteConflictError: Other rewrites were faster every time.
    """
    removal, total = Removal(sieve.table), 0

    def step(table: DeltaTable) -> Change | None:
        nonlocal total
        files = [one for one in data_files(table) if sieve.count(one)]
        total = max(total, len(removal.files) + len(files))
        if whole := [one for one in files if sieve.count(one) == one.rows]:
            return Change(whole, [])
        return Change(files[:1], [sieve.kept(files[0])]) if files else None

    def done(change: Change, parts: list[Part]) -> None:
        nonlocal removal
        removal = replace(
            removal,
            rows=removal.rows + sum(sieve.count(one) for one in change.removed),
            files=(*removal.files, *change.removed),
            bytes=removal.bytes + sum(one.size for one in change.removed) - sum(part.size for part in parts),
        )
        tell(len(removal.files), total)

    rewrite(sieve.lake, sieve.table, step, done)
    return removal
