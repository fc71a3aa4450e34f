"""Taking rows out of files that only older versions name, and deleting, after a while, whatever held such rows.

A version stays readable while its files go: of each a copy without the rows is written, ``rewrites`` says which, and
readers of older versions map their files through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
from deltalake import DeltaTable

from etl.lake.ids import digest
from etl.lake.lake import Lake
from etl.lake.maintenance import Change, DataFile, rewrite
from etl.lake.maintenance.stream import write_stream
from etl.lake.parts import Part, data_paths, table_key
from etl.lake.takedown.cut import Cut, Removed, Replaced, Sifted, batched, remember
from etl.lake.takedown.scan import Hit, Scan, on_disk
from etl.lake.units import LAST, is_unit_key
from etl.storage import NotFoundError

FOLDER = "purge"  # of the copies, inside a table's parts


@dataclass
class Left:
    """What still holds such rows after a pass over the files that are in no present version.

    Attributes:
        until: Values in files that were replaced -> when the last of them is deleted.
        in_flight: Values in files that somebody may still commit.
        copied: Rows that the copies lack, and the number of files copied.
        deleted: Files deleted.
    """

    until: dict[str, datetime] = field(default_factory=dict)
    in_flight: set[str] = field(default_factory=set)
    copied: Removed = field(default_factory=Removed)
    deleted: int = 0


def cut_history(scan: Scan, cut: Cut) -> Left:
    """Copy without the rows what older versions name, and delete what was replaced more than the purge hours ago.

    Args:
        scan: Reads the lake.
        cut: What goes.

    Raises:
        RewriteConflictError: Other rewrites were faster every time.
        StorageError: The store failed.
    """
    lake, left = scan.lake, Left()
    present = set(data_paths(lake.table(cut.table)))
    rest = {path: size for path, size in on_disk(lake, cut.table).items() if path not in present}
    hits = scan.hits(cut.table, rest, cut.column, cut.values, cut.shards)
    replaced = replaced_at(lake, cut.table)
    todo = _settled(lake, cut.table, [path for path in hits if path not in replaced])
    files = [DataFile(path=path, size=rest[path], rows=hits[path].of, first="") for path in sorted(todo)]
    copied = _Copies(scan, cut).run(files, hits)
    left.copied.add(copied)
    replaced |= dict.fromkeys((one.old for one in copied), datetime.now(UTC))
    _delete(lake, cut.table, hits, replaced, left)
    return left


def _settled(lake: Lake, table: str, paths: Sequence[str]) -> list[str]:
    """Those of ``paths`` that no order can commit any more; the others are parts of orders at work, and theirs.

    Parts of a rewrite in flight are among them: the transaction that replaces them takes its number, so it is refused.
    """
    if not paths:
        return []
    logs = [lake.table(name) for name in {*LAST, table}]
    keys = {path: path.split("/")[1] for path in paths}
    return [
        path
        for path, key in keys.items()
        if not is_unit_key(key) or any(log.transaction_version(key) is not None for log in logs)
    ]


class _Copies:
    """Copies files in batches; each batch is one transaction, so that no rewrite in flight can bring them back.

    The copies are removed in that transaction, though they never were added: so the log tells of them, and vacuum
    deletes them when the versions that need them are past the retention and pinned by nobody.
    """

    def __init__(self, scan: Scan, cut: Cut) -> None:
        self._scan, self._cut = scan, cut
        self._made: dict[str, tuple[Replaced, int]] = {}  # and bytes; kept when the transaction is tried again
        self._batch: list[DataFile] = []
        self._finished: list[Replaced] = []

    def run(self, files: Sequence[DataFile], hits: Mapping[str, Hit]) -> list[Replaced]:
        """Copy files; returns those that are replaced now."""
        while files:
            self._batch = batched(files)
            files = files[len(self._batch) :]
            for one in self._batch:
                self._copy(one, hits[one.path])
            rewrite(self._scan.lake, self._cut.table, self._step, self._done)
        return self._finished

    def _copy(self, one: DataFile, hit: Hit) -> None:
        lake, rows = self._scan.lake, Sifted(self._scan.lake, self._cut, one)
        part: Part | None = None
        try:
            if self._cut.leaves(one, hit):
                part = write_stream(lake, self._cut.table, rows, FOLDER, digest(one.path))
            else:
                rows.drain()
        except NotFoundError:  # vacuum deleted it since it was listed
            return
        self._made[one.path] = Replaced(one.path, part.path if part else None, rows.gone), part.size if part else 0

    def _step(self, handle: DeltaTable) -> Change | None:
        present = set(data_paths(handle))
        # One that a rewrite in flight has brought into the log since is a matter of the next pass.
        self._batch = [one for one in self._batch if one.path in self._made and one.path not in present]
        made = [self._made[one.path] for one in self._batch]
        copies = [DataFile(path=copy.new, size=size, rows=0, first="") for copy, size in made if copy.new]
        return Change(copies, [], same_rows=True) if self._batch else None

    def _done(self, _: Change, __: list[Part]) -> None:
        replaced = [self._made[one.path][0] for one in self._batch]
        remember(self._scan.lake, self._cut.table, replaced)
        self._finished += replaced
        self._batch = []


def replaced_at(lake: Lake, table: str) -> dict[str, datetime]:
    """When each file of a table that a takedown replaced was."""
    found: dict[str, datetime] = {}
    columns = ["table_name", "old_path", "rewritten_at"]
    for batch in lake.table("rewrites").to_pyarrow_dataset().to_batches(columns=columns):
        here = batch.filter(pc.equal(batch["table_name"], table))  # a dataset's own filter needs statistics
        for row in here.to_pylist():
            found[row["old_path"]] = min(row["rewritten_at"], found.get(row["old_path"], row["rewritten_at"]))
    return found


def _delete(lake: Lake, table: str, hits: Mapping[str, Hit], replaced: Mapping[str, datetime], left: Left) -> None:
    """Delete what was replaced long enough ago: never a file without its row in ``rewrites``."""
    patience, now = timedelta(hours=lake.settings.purge_hours), datetime.now(UTC)
    for path, hit in hits.items():
        if path not in replaced:
            left.in_flight |= hit.values
        elif replaced[path] + patience <= now:
            lake.store.destroy(f"{table_key(table)}/{path}")
            left.deleted += 1
        else:
            for value in hit.values:
                left.until[value] = max(replaced[path] + patience, left.until.get(value, replaced[path] + patience))
