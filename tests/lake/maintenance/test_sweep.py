"""Sweep removes what is dead and what nothing names, and nothing that anybody may still need."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lake_ageing import DAY, Killed, age_files, age_log, fill, killed_at, register_manifest, sweep, tree
from rows import image, row, rows

from etl.errors import ConfigurationError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.commit import COMMITTED, FENCED, FencedError
from etl.lake.ids import digest
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.schemas import UNIT_TABLES
from etl.lake.units import open_units

DEAD, OTHER = digest("dead"), digest("other")
IMAGES = [image(f"{n:02d}") for n in range(15)]  # two slices of ten


def begin(lake: Lake, key: str = DEAD, slices: int = 2, stage: str = "tag") -> Any:
    """An order with some of its slices finished."""
    order = open_order(lake, key, {"stage": stage, "annotator_id": "a"}, lambda: [{"image_id": one} for one in IMAGES])
    for number, items in list(order.slices())[:slices]:
        values = [{"image_id": item["image_id"], "unit": key} for item in items]
        finish_slice(
            lake, key, number, {name: rows(name, *values) for name in ("tags", "outcomes")}, {"ok": len(items)}
        )
    return order


def commit_to(lake: Lake, order: Any, *tables: str) -> None:
    """As a process does that dies before its next table."""
    real = lake.commit

    def commit(table: str, key: str, actions: Any) -> int:
        return real(table, key, actions) if table in tables else 0

    lake.commit = commit  # type: ignore[method-assign]
    try:
        commit_order(lake, order, "outcomes")
    finally:
        lake.commit = real  # type: ignore[method-assign]


def parts(lake: Lake, key: str = DEAD) -> list[str]:
    return [one.key for name in UNIT_TABLES for one in lake.store.list(f"tables/{name}/parts/{key}/")]


def units(lake: Lake, key: str = DEAD) -> list[str]:
    return [one.key for one in lake.store.list(f"units/{key}")]


def count(lake: Lake, table: str, key: str = DEAD) -> int:
    return lake.table(table).to_pyarrow_table()["unit"].to_pylist().count(key)


# Dead orders


def test_a_dead_order_is_fenced_and_all_of_it_goes(lake: Lake) -> None:
    begin(lake)
    assert sweep(lake) == {"dead orders": 1, "parts of dead orders": 4, "records of dead orders": 3}
    assert {lake.table(name).transaction_version(DEAD) for name in UNIT_TABLES} == {FENCED}
    assert parts(lake) + units(lake) == []
    assert sweep(lake) == {}


def test_whoever_still_worked_on_it_is_told_so(lake: Lake) -> None:
    order = begin(lake)
    sweep(lake)
    begin(lake)  # as a process would go on that slept meanwhile
    with pytest.raises(FencedError):
        commit_order(lake, order, "outcomes")
    assert (count(lake, "tags"), count(lake, "outcomes")) == (0, 0)


def test_an_order_that_progressed_is_alive(lake: Lake) -> None:
    begin(lake)
    before = tree(Path(lake.uri))
    assert sweep(lake, 6) == {}
    assert tree(Path(lake.uri)) == before
    age_files(Path(lake.uri) / "units", 20)
    begin(lake, slices=2)
    os.utime(Path(lake.uri) / "units" / DEAD / "00001.json")  # its last slice is of today
    assert sweep(lake, 0) == {}


def test_a_committed_order_keeps_everything(lake: Lake) -> None:
    commit_order(lake, begin(lake), "outcomes")
    before = tree(Path(lake.uri))
    assert sweep(lake, 400) == {}
    assert tree(Path(lake.uri)) == before


def test_an_order_that_is_committed_just_before_the_fence_is_alive(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    order, real = begin(lake), lake.fence

    def late(table: str, key: str) -> bool:
        commit_order(lake, order, "outcomes")
        return real(table, key)

    monkeypatch.setattr(lake, "fence", late)
    assert sweep(lake) == {}
    assert (count(lake, "tags"), count(lake, "outcomes")) == (15, 15)


def test_rows_it_had_committed_go_and_older_versions_stay_readable(lake: Lake) -> None:
    commit_to(lake, begin(lake), "tags")
    version = lake.table("tags").version()
    assert sweep(lake) == {
        "dead orders": 1,
        "rows of dead orders": 15,
        "parts of dead orders": 2,  # of outcomes
        "records of dead orders": 3,
    }
    assert lake.table("tags").to_pyarrow_table().num_rows == 0
    assert lake.table("tags", version).to_pyarrow_table().num_rows == 15
    age_log(lake, "tags", 31)
    assert len(maintenance.vacuum(lake, "tags").paths) == 2


def test_rows_that_a_compaction_merged_with_those_of_others_go_too(lake: Lake) -> None:
    commit_to(lake, begin(lake), "tags")
    commit_order(lake, begin(lake, OTHER), "outcomes")
    maintenance.compact(lake, "tags")
    assert sweep(lake)["rows of dead orders"] == 15
    assert (count(lake, "tags"), count(lake, "tags", OTHER)) == (0, 15)
    assert parts(lake, DEAD)  # what the compaction replaced is vacuum's


def test_many_dead_orders_are_one_rewrite_per_touched_file(lake: Lake) -> None:
    for n in range(5):
        commit_to(lake, begin(lake, digest("dead", n)), "tags")
    commit_order(lake, begin(lake, OTHER), "outcomes")
    maintenance.compact(lake, "tags")
    version = lake.table("tags").transaction_version("maintain")
    sweep(lake)
    assert lake.table("tags").transaction_version("maintain") == version + 1


@pytest.mark.parametrize(
    ("method", "nth", "after"),
    [
        ("fence", 1, True),
        ("fence", 3, False),
        ("publish_file", 1, True),
        ("delete", 1, True),
        ("delete", 3, False),
        ("delete", 5, True),
    ],
)
def test_killed_anywhere_the_next_sweep_does_the_rest(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, method: str, nth: int, after: bool
) -> None:
    commit_to(lake, begin(lake), "tags")
    commit_order(lake, begin(lake, OTHER), "outcomes")
    maintenance.compact(lake, "tags")
    owner = lake if method == "fence" else lake.store
    with killed_at(monkeypatch, owner, method, nth, after=after), pytest.raises(Killed):
        sweep(lake)
    sweep(lake)
    assert lake.table("outcomes").transaction_version(DEAD) == FENCED
    assert lake.table("outcomes").transaction_version(OTHER) == COMMITTED
    assert (count(lake, "tags"), count(lake, "tags", OTHER), count(lake, "outcomes", OTHER)) == (0, 15, 15)
    assert units(lake) == []
    assert len(units(lake, OTHER)) == 3
    assert [one for one in parts(lake) if "outcomes" in one] == []


def test_an_order_waits_for_its_turn_while_its_request_progresses(lake: Lake) -> None:
    for key, request in ((DEAD, "r1"), (OTHER, "r1"), (digest("third"), "r2")):
        lake.append("orders", [row("orders", unit=key, request=request, shards=[])], key)
    begin(lake, OTHER)
    assert sweep(lake, 0) == {"dead orders": 1}  # registered in the past, and never begun
    assert lake.table("outcomes").transaction_version(digest("third")) == FENCED
    assert lake.table("outcomes").transaction_version(DEAD) is None


def test_a_list_that_was_never_registered_goes(lake: Lake) -> None:
    lake.store.put(f"units/{DEAD}/items-1.json", b"{}")
    lake.store.put("units/requests/open/some.json", b"{}")
    assert sweep(lake)["records of dead orders"] == 1
    assert lake.store.stat("units/requests/open/some.json")


# Files that nothing names


def orphan(lake: Lake, key: str) -> Path:
    lake.store.put(key, b"nobody names it")
    return Path(lake.uri) / key


@pytest.mark.parametrize("folder", ["purge", "0" * 32, "maintain-00000001"])
def test_parts_that_no_version_names_go_after_a_week(lake: Lake, folder: str) -> None:
    fill(lake, 0, 2)
    maintenance.compact(lake, "takedowns")
    path = orphan(lake, f"tables/takedowns/parts/{folder}/00000-lost.parquet")
    assert sweep(lake, 6, days=1) == {}
    assert sweep(lake, 8, days=1) == {"orphan parts": 1}
    assert not path.exists()


def test_a_part_of_a_rewrite_that_may_still_be_committed_stays(lake: Lake) -> None:
    path = orphan(lake, "tables/takedowns/parts/maintain-00000001/00000-waiting.parquet")
    assert sweep(lake, 100) == {}
    fill(lake, 0, 2)
    maintenance.compact(lake, "takedowns")  # its number is used up
    assert sweep(lake, 100) == {"orphan parts": 1}
    assert not path.exists()


def test_a_part_of_an_order_in_progress_stays_however_old_it_is(lake: Lake) -> None:
    begin(lake)
    unnamed = orphan(lake, f"tables/tags/parts/{DEAD}/00001-twin.parquet")
    age_files(Path(lake.uri) / "tables" / "tags" / "parts", 100)
    assert sweep(lake, 0) == {}
    assert unnamed.exists()


def test_replaced_and_pinned_files_are_left_to_vacuum(lake: Lake) -> None:
    fill(lake, 0, 2)
    register_manifest(lake, dict(Snapshot.take(lake).versions))
    fill(lake, 2, 2)
    maintenance.compact(lake, "takedowns")
    before = tree(Path(lake.uri))
    assert sweep(lake, 100) == {}
    assert tree(Path(lake.uri)) == before


def test_what_replaces_a_file_that_older_versions_name_stays(lake: Lake) -> None:
    fill(lake, 0, 2)
    old = maintenance.data_files(lake.table("takedowns"))[0].path
    new = "parts/purge/00000-copy.parquet"
    path = orphan(lake, f"tables/takedowns/{new}")
    maintenance.compact(lake, "takedowns")
    lake.append("rewrites", [row("rewrites", table_name="takedowns", old_path=old, new_path=new)], "rewritten")
    assert sweep(lake, 100) == {}
    assert path.exists()


def ingest(lake: Lake, key: str, tar: str, last: bool = True) -> None:
    order = open_order(lake, key, {"stage": "ingest"}, lambda: [{"urls": "u"}])
    lake.store.put(tar, b"a tar")
    found = {"unit": key, "image_id": image(key[:4])}
    tables = {"images": rows("images", {**found, "tar": tar}), "downloads": rows("downloads", found)}
    finish_slice(lake, key, 0, tables, {"ok": 1})
    if last:
        commit_order(lake, order, "downloads")


def test_a_tar_goes_when_no_row_of_any_readable_version_leads_to_it(lake: Lake) -> None:
    ingest(lake, OTHER, "raw/web/shard-1-kept.tar")
    maintenance.compact(lake, "images")
    lost = orphan(lake, "raw/web/shard-1-lost.tar")
    assert sweep(lake, 6) == {}
    assert sweep(lake, 8) == {"orphan tars": 1}
    assert not lost.exists()


def test_the_tar_of_a_dead_download_goes_with_it(lake: Lake) -> None:
    ingest(lake, DEAD, "raw/web/dead.tar", last=False)
    dry = sweep(lake, dry_run=True)
    assert (
        sweep(lake)
        == dry
        == {
            "dead orders": 1,
            "parts of dead orders": 2,
            "records of dead orders": 2,
            "orphan tars": 1,
        }
    )
    assert lake.store.stat("raw/web/dead.tar") is None


def test_url_lists_that_no_shard_names_go(lake: Lake) -> None:
    lake.append("shards", [row("shards", urls="urls/web/kept.parquet")], "shard")
    for name in ("kept", "lost"):
        lake.store.put(f"urls/web/{name}.parquet", b"urls")
    assert sweep(lake) == {"url lists": 1}
    assert lake.store.stat("urls/web/kept.parquet")
    assert lake.store.stat("urls/web/lost.parquet") is None


# Temporary files


def test_temporary_files_of_the_store_go_after_a_day(lake: Lake) -> None:
    for name in ("raw/web/.tmp-123", "probe-123"):
        path = Path(lake.uri) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert sweep(lake, 0.9) == {}
    assert sweep(lake, 1.1) == {"temporary files of the store": 2}
    assert not (Path(lake.uri) / "probe-123").exists()


# All of it


def litter(lake: Lake) -> None:
    commit_to(lake, begin(lake), "tags")
    ingest(lake, OTHER, "raw/web/dead.tar", last=False)
    for key in ("tables/tags/parts/x/0-lost.parquet", "raw/web/lost.tar", "urls/web/lost.parquet", "raw/web/.tmp-1"):
        path = Path(lake.uri) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"lost")
    (lake.settings.scratch / "sql-abcd_123").mkdir(parents=True)
    age_files(Path(lake.uri), 9)
    age_files(lake.settings.scratch, 9)


def test_a_dry_run_says_the_same_and_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    litter(lake)
    before = tree(tmp_path)
    dry = maintenance.sweep(lake, dry_run=True)
    assert tree(tmp_path) == before
    assert maintenance.sweep(lake).taken == dry.taken
    assert len(dry.taken) == 9


def test_two_sweeps_at_once_do_what_one_does(lake: Lake) -> None:
    from concurrent.futures import ThreadPoolExecutor

    litter(lake)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(maintenance.sweep, lake) for _ in range(2)]:
            one.result()
    assert maintenance.sweep(lake).taken == {}
    assert open_units(lake) == []


def test_the_store_tells_the_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(lake)
    real: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1000 * DAY)
    before = tree(Path(lake.uri))
    assert maintenance.sweep(lake).taken == {}
    assert tree(Path(lake.uri)) == before


def test_less_than_a_day_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="0 days"):
        maintenance.sweep(lake, days=0)
