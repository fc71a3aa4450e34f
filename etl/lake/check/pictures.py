"""Pictures: their tars are there and long enough, and the bytes at an offset are those of the image id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import duckdb

from etl.lake.check.bench import Bench
from etl.lake.check.findings import NOTE, Finding, Progress, Tally
from etl.lake.ids import digest_bytes
from etl.storage import NotFoundError, Store

RAW = "raw/"
_BATCH, _BYTES = 1024, 32 << 20  # rows, and bytes of pictures, held at once
_TARS = (
    "restore these tars from a backup; or download their shards again: the DAG ingest, their ids in the field Shards"
)
_PURGE = "groundlake takedown purge"
Row = tuple[str, str, int, int, bool | None]  # image_id, tar, offset, length, purged (None: not taken down)

_SELECT = """
    select i.image_id, i.tar, i."offset", i.length, g.purged
    from raw.images i left join gone g using (image_id)"""


def check_pictures(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Tars by one listing; pictures by reading a sample of them, or all."""
    if not bench.has("images"):
        return
    with bench.connect() as connection:
        yield from _tars(bench.lake.store, connection)
        yield from _Reader(bench).check(connection, progress)


def _tars(store: Store, connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    ends = connection.execute('select tar, max("offset" + length), count(*) from raw.images group by tar').fetchall()
    waiting = {tar: (end, count) for tar, end, count in ends}
    missing, short = Tally(), Tally()
    for one in store.list(RAW):
        end, count = waiting.pop(one.key, (0, 0))
        if one.size < end:
            short.add(f"{one.key}: {one.size} bytes, {end} wanted, {count} pictures")
    for tar, (end, count) in waiting.items():
        found = None if tar.startswith(RAW) else store.stat(tar)
        if found is None:
            missing.add(f"{tar}, {count} pictures")
        elif found.size < end:
            short.add(f"{tar}: {found.size} bytes, {end} wanted, {count} pictures")
    yield from missing.finding("pictures.tar", "tars are missing", _TARS)
    yield from short.finding("pictures.tar", "tars are shorter than the pictures they hold", _TARS)


class _Reader:
    """Reads pictures and sorts what is wrong with them."""

    def __init__(self, bench: Bench) -> None:
        self._store, self._scope = bench.lake.store, bench.scope
        self._sizes: dict[str, int] = {}
        self._other, self._zeroed, self._kept, self._waiting = Tally(), Tally(), Tally(), Tally()

    def check(self, connection: duckdb.DuckDBPyConnection, progress: Progress) -> Iterator[Finding]:
        total = connection.execute("select count(*) from raw.images").fetchall()[0][0]
        if self._scope.everything:
            rows = connection.execute(f'{_SELECT} order by i.tar, i."offset"')
        else:
            total = min(total, self._scope.sample)
            chosen = f'{_SELECT} order by hash(i.image_id, i.tar, i."offset", ?::bigint) limit ?'
            rows = connection.execute(f'from ({chosen}) order by tar, "offset"', [self._scope.seed, total])
        done = 0
        while batch := rows.fetchmany(_BATCH):
            for tar, members in groupby(batch, key=lambda row: row[1]):
                self._read(tar, list(members))
            done += len(batch)
            progress(done, total)
        yield from self._findings()

    def _read(self, tar: str, rows: Sequence[Row]) -> None:
        if tar not in self._sizes:
            found = self._store.stat(tar)
            self._sizes = {tar: found.size if found else 0}  # rows come tar by tar
        held: list[Row] = []
        for row in rows:
            if row[2] + row[3] > self._sizes[tar]:
                continue  # the tar is missing or short: said already
            if held and sum(one[3] for one in held) + row[3] > _BYTES:
                self._judge(tar, held)
                held = []
            held.append(row)
        self._judge(tar, held)

    def _judge(self, tar: str, rows: Sequence[Row]) -> None:
        try:
            found = self._store.read_ranges(tar, [(row[2], row[3]) for row in rows]) if rows else []
        except NotFoundError:
            return  # deleted since it was listed, with its rows
        for (image_id, _, offset, length, purged), data in zip(rows, found, strict=True):
            where = f"image {image_id} at {tar}:{offset}+{length}"
            same = digest_bytes(data) == image_id
            if purged is not None and same:
                (self._kept if purged else self._waiting).add(where)
            elif purged is None and not same:
                (self._other if any(data) else self._zeroed).add(where)

    def _findings(self) -> Iterator[Finding]:
        remedy = "restore their tar from a backup; or take them down: groundlake takedown add --image-id ID"
        yield from self._other.finding("pictures.bytes", "pictures whose bytes have another digest", remedy)
        message = "pictures whose bytes are zero, although they were not taken down"
        yield from self._zeroed.finding("pictures.bytes", message, remedy)
        message = "pictures taken down whose bytes are still there, although they are said purged"
        yield from self._kept.finding("takedown.bytes", message, _PURGE)
        message = "pictures taken down whose bytes are still there: their takedown is under way"
        yield from self._waiting.finding("takedown.bytes", message, f"{_PURGE} ends it", NOTE)
