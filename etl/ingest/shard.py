"""Download one shard, exactly once: the tar, then one slice record, then one commit per table.

A shard is one work order with one slice, because img2dataset writes one tar. Whoever finishes the slice first wins;
a twin's tar is deleted, and a retry finds the record and only commits.
"""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pyarrow.parquet as pq

from etl.errors import DataError, RetryableError
from etl.ingest.counts import IngestCounts, shard_counts
from etl.ingest.download import Progress, download
from etl.ingest.failures import BAD_URL, TAKEN_DOWN
from etl.ingest.lists import url_problem
from etl.ingest.settle import Fate, Tombstones, count, failed, judge, to_tables
from etl.ingest.shards import Shard, ShardRef, find_shard, read_urls
from etl.lake import Lake, Snapshot
from etl.lake.commit import COMMITTED, FENCED
from etl.lake.ids import url_digest
from etl.lake.orders import SliceRecord, commit_order, finish_slice, open_order, read_slice
from etl.lake.parts import table_key
from etl.lake.scratch import scratch_folder


def ingest_shard(lake: Lake, ref: ShardRef, progress: Progress | None = None) -> IngestCounts:
    """Download a shard unless that was done, and settle every url of it.

    Args:
        lake: The lake.
        ref: A planned shard.
        progress: Called with the number of finished urls and of all urls.

    Returns:
        What became of its urls, as the lake knows it now.

    Raises:
        UnknownNameError: The shard was not planned.
        DataError: This attempt was fenced.
        RetryableError: The place failed (disk, memory, img2dataset); no row was written.
    """
    state = lake.table("downloads").transaction_version(ref.unit)
    if state == FENCED:
        raise DataError(
            f"attempt {ref.attempt} of shard {ref.shard_id} was declared dead after days without progress",
            remedy="plan the source again: its urls get another attempt",
        )
    if state != COMMITTED:
        snapshot = Snapshot.take(lake)
        shard = find_shard(snapshot, ref.shard_id, ref.attempt)
        header = {"stage": "ingest", "source": ref.source, "shard_id": ref.shard_id, "attempt": ref.attempt}
        order = open_order(lake, ref.unit, header, lambda: [{"urls": shard.urls_key, "n_urls": shard.n_urls}])
        if read_slice(lake, ref.unit, 0) is None:
            _work(lake, shard, Tombstones.read(snapshot), progress or _silent)
        commit_order(lake, order, last="downloads")
    return shard_counts(Snapshot.take(lake), [(ref.shard_id, ref.attempt)])


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


def _work(lake: Lake, shard: Shard, tombstones: Tombstones, progress: Progress) -> None:
    with scratch_folder(lake.settings.scratch, "ingest-", "nothing was stored") as folder:
        fates, tar = _fetch(lake, shard, tombstones, folder, progress)
        if tar is not None:
            fates = judge(fates, tar, shard, tombstones, lake.settings.decode_threads)
        tar_key = _publish(lake, shard, tar) if tar and any(fate.picture for fate in fates) else None
        record = finish_slice(lake, shard.ref.unit, 0, to_tables(fates, shard, tar_key), count(fates))
        if tar_key is not None and tar_key != _named_tar(lake, record):
            lake.store.delete(tar_key)  # a twin won the slice: nothing names ours


def _fetch(
    lake: Lake, shard: Shard, tombstones: Tombstones, folder: Path, progress: Progress
) -> tuple[list[Fate], Path | None]:
    """The fate of every url before anything is decoded, and the tar; None when nothing was worth a request."""
    fates: list[Fate] = []
    wanted: list[tuple[str, str | None]] = []
    for row in read_urls(lake, shard.urls_key).to_pylist():
        url, caption = row["url"], row["caption"]
        if problem := url_problem(url):
            fates.append(failed(url, caption, BAD_URL, problem))
        elif url_digest(url) in tombstones.urls:
            fates.append(failed(url, caption, TAKEN_DOWN, "the url was taken down"))
        else:
            wanted.append((url, caption))
    if not wanted:
        return fates, None
    tar, fetched = download([url for url, _ in wanted], shard.settings, folder, progress)
    fates += [Fate(url, caption, one) for (url, caption), one in zip(wanted, fetched, strict=True)]
    return fates, tar


def _publish(lake: Lake, shard: Shard, tar: Path) -> str:
    """Copy the tar into the lake under a name nobody else uses."""
    ref = shard.ref
    key = f"raw/{ref.source}/{ref.shard_id}-{ref.attempt}-{uuid.uuid4().hex[:12]}.tar"
    lake.store.publish_file(tar, key)
    found = lake.store.stat(key)
    if found is None or found.size != tar.stat().st_size:
        raise RetryableError(f"{key} in {lake.uri} is not as long as the tar it was copied from", remedy="run it again")
    return key


def _named_tar(lake: Lake, record: SliceRecord) -> str | None:
    for part in record.parts:
        if part.table == "images":
            content = io.BytesIO(lake.store.read(f"{table_key(part.table)}/{part.path}"))
            return str(pq.read_table(content, columns=["tar"])["tar"][0].as_py())
    return None
