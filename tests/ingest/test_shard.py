"""A shard is settled exactly once, whatever is killed, doubled or damaged: a real crawl, replayed into other lakes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from etl.errors import DataError, RetryableError, UnknownNameError
from etl.ingest import shard as shard_module
from etl.ingest.counts import source_counts
from etl.ingest.download import Fetched
from etl.ingest.planning import ShardRef, make_plan
from etl.ingest.shard import ingest_shard
from etl.lake import Lake, Snapshot
from etl.lake.ids import digest

if TYPE_CHECKING:
    from tests.ingest.conftest import Crawl


def rows(lake: Lake, query: str) -> list[dict[str, object]]:
    with Snapshot.take(lake).connect() as connection:
        return connection.execute(query).to_arrow_table().to_pylist()


def content(lake: Lake) -> list[object]:
    """All rows that ingest writes, without times and names that chance makes."""
    return [
        rows(lake, "select * exclude (tried_at) from raw.downloads order by url"),
        rows(lake, 'select * exclude (tar, ingested_at) from raw.images order by "offset"'),
        rows(lake, "select * from raw.sightings order by url"),
    ]


def tars(lake: Lake) -> list[str]:
    return [found.key for found in lake.store.list("raw/")]


def refuse(*_: object) -> tuple[Path, list[Fetched]]:
    raise AssertionError("a settled shard was downloaded again")


@pytest.fixture
def ref(crawl: Crawl, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> ShardRef:
    """The crawl's shard, planned in an empty lake whose downloads replay the crawl's."""
    monkeypatch.setattr(shard_module, "download", crawl.replay)
    return make_plan(lake, crawl.source, "again").refs[0]


class KilledError(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def kill(*_: object, **__: object) -> None:
    raise KilledError


def expect_kill(lake: Lake, ref: ShardRef) -> None:
    with pytest.raises(KilledError):
        ingest_shard(lake, ref)


def test_killed_after_its_slice_a_shard_resumes_without_a_download(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "commit_order", kill)
        expect_kill(lake, ref)
    assert rows(lake, "select * from downloads") == []
    monkeypatch.setattr(shard_module, "download", refuse)
    assert ingest_shard(lake, ref) == crawl.counts


def test_killed_between_two_tables_a_shard_shows_nothing_and_resumes(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = lake.commit
    with monkeypatch.context() as patch:
        patch.setattr(lake, "commit", lambda table, *rest: kill() if table == "downloads" else commit(table, *rest))
        expect_kill(lake, ref)
    assert len(rows(lake, "select * from raw.images")) > 0
    assert rows(lake, "select * from images") == rows(lake, "select * from sightings") == []
    monkeypatch.setattr(shard_module, "download", refuse)
    assert ingest_shard(lake, ref) == crawl.counts
    assert len(rows(lake, "select * from raw.images")) == crawl.counts.ok + crawl.counts.duplicate


def test_killed_while_it_downloads_a_shard_leaves_no_rows_and_starts_again(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "download", kill)
        expect_kill(lake, ref)
    assert ingest_shard(lake, ref) == crawl.counts


def test_twins_leave_the_rows_and_the_tar_of_one(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)

    def together(urls: Sequence[str], *rest: object) -> tuple[Path, list[Fetched]]:
        both.wait()
        return crawl.replay(urls, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_module, "download", together)
    results: list[object] = []
    twins = [threading.Thread(target=lambda: results.append(ingest_shard(lake, ref))) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert results == [crawl.counts, crawl.counts]
    assert content(lake) == content(crawl.lake)
    assert tars(lake) == [row["tar"] for row in rows(lake, "select distinct tar from raw.images")]


def test_a_full_disk_is_retryable_and_writes_nothing(
    lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> tuple[Path, list[Fetched]]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_module, "download", full)
    with pytest.raises(RetryableError, match="No space left") as caught:
        ingest_shard(lake, ref)
    assert "GROUNDLAKE_SCRATCH" in str(caught.value)
    assert rows(lake, "select * from raw.downloads") == tars(lake) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "another tar"])
def test_a_tar_that_is_not_what_was_received_is_retryable(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def damaged(urls: Sequence[str], *rest: object) -> tuple[Path, list[Fetched]]:
        tar, fetched = crawl.replay(urls, *rest)  # type: ignore[arg-type]
        data = bytearray(tar.read_bytes())
        if damage == "cut":
            del data[len(data) // 2 :]
        elif damage == "changed":
            data[data.index(b"\xff\xd8") + 30] ^= 0xFF  # inside some JPEG
        else:
            data = bytearray(10_240)
        tar.write_bytes(data)
        return tar, fetched

    monkeypatch.setattr(shard_module, "download", damaged)
    with pytest.raises(RetryableError):
        ingest_shard(lake, ref)
    assert rows(lake, "select * from raw.downloads") == tars(lake) == []


def test_what_was_taken_down_is_not_stored_again(crawl: Crawl, lake: Lake, ref: ShardRef) -> None:
    pictures = rows(
        crawl.lake, "select image_id, url, source_sha256 from sightings where url like '%/pictures/%' limit 3"
    )
    by_id, by_bytes, by_url = pictures
    now = pa.scalar(0, pa.timestamp("us", tz="UTC")).as_py()
    stones = [("image_id", by_id["image_id"]), ("source_sha256", by_bytes["source_sha256"])]
    lake.append(
        "takedowns",
        [{"kind": kind, "value": value, "reason": "asked", "requested_at": now} for kind, value in stones],
        digest("stones"),
    )
    counts = ingest_shard(lake, ref)
    gone = {by_id["image_id"], by_bytes["image_id"]}
    failed = rows(lake, "select url from downloads where error_class = 'taken_down'")
    assert {row["url"] for row in failed} >= {by_id["url"], by_bytes["url"]}
    assert counts.failed["taken_down"] == len(failed)
    stored = lake.store.read(tars(lake)[0])
    for row in (by_id, by_bytes):
        picture = (crawl.site / str(row["url"]).removeprefix(f"{crawl.base_url}/")).read_bytes()
        assert hashlib.sha256(picture).hexdigest() == row["source_sha256"]
        assert picture not in stored
    assert (crawl.site / str(by_url["url"]).removeprefix(f"{crawl.base_url}/")).read_bytes() in stored
    assert not gone & {row["image_id"] for row in rows(lake, "select image_id from raw.images")}


def test_a_picture_that_is_taken_down_later_counts_as_taken_down(crawl: Crawl, lake: Lake, ref: ShardRef) -> None:
    before = ingest_shard(lake, ref)
    (one,) = rows(lake, "select image_id, count(*) as n from sightings group by 1 having count(*) = 1 limit 1")
    stone = {"kind": "image_id", "value": one["image_id"], "reason": "asked", "requested_at": None}
    stone["requested_at"] = pa.scalar(0, pa.timestamp("us", tz="UTC")).as_py()
    lake.append("takedowns", [stone], digest("stone"))
    after = source_counts(Snapshot.take(lake), "demo")
    assert (after.ok, after.failed["taken_down"], after.n_urls) == (before.ok - 1, 1, before.n_urls)


def test_the_same_pictures_under_another_source_are_duplicates(
    crawl: Crawl, lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_plan(lake, crawl.source.model_copy(update={"name": "other"}), "again").refs[0]
    assert ingest_shard(lake, other).ok == crawl.counts.ok  # planned later but finished first
    ingest_shard(lake, ref)
    snapshot = Snapshot.take(lake)
    assert source_counts(snapshot, "demo") == crawl.counts
    later = source_counts(snapshot, "other")
    assert (later.ok, later.duplicate) == (0, crawl.counts.ok + crawl.counts.duplicate)
    assert {row["source"] for row in rows(lake, "select distinct source from images")} == {"demo"}


def test_an_unplanned_shard_is_refused(lake: Lake) -> None:
    with pytest.raises(UnknownNameError, match="unknown shard"):
        ingest_shard(lake, ShardRef("demo", "0" * 32, 1))


def test_a_fenced_shard_is_not_downloaded(lake: Lake, ref: ShardRef, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltalake import CommitProperties, Transaction

    table = lake.table("downloads")
    table.create_write_transaction(
        [], "append", table.schema(), commit_properties=CommitProperties(app_transactions=[Transaction(ref.unit, 2)])
    )
    monkeypatch.setattr(shard_module, "download", refuse)
    with pytest.raises(DataError, match="declared dead"):
        ingest_shard(lake, ref)
