"""Rewrites beside anything else keep every row exactly once."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.ids import digest
from etl.lake.maintenance.rewrite import _swap
from etl.lake.schemas import TABLES


def takedown(number: int) -> dict[str, object]:
    return {"kind": "image_id", "value": f"{number:06d}", "reason": "a" * 50, "requested_at": datetime.now(UTC)}


def fill(lake: Lake, start: int, files: int, rows: int = 5) -> None:
    for number in range(start, start + files):
        lake.append("takedowns", [takedown(number * rows + n) for n in range(rows)], digest("fill", number))


def values(lake: Lake) -> list[str]:
    return sorted(lake.table("takedowns").to_pyarrow_table()["value"].to_pylist())


def expected(count: int) -> list[str]:
    return [f"{n:06d}" for n in range(count)]


def test_compaction_leaves_one_file_with_the_same_rows(lake: Lake) -> None:
    fill(lake, 0, 12)
    result = maintenance.compact(lake, "takedowns")
    assert (result.files_before, result.files_after) == (12, 1)
    assert values(lake) == expected(60)


def test_compacting_again_changes_nothing(lake: Lake) -> None:
    fill(lake, 0, 3)
    maintenance.compact(lake, "takedowns")
    version = lake.table("takedowns").version()
    maintenance.compact(lake, "takedowns")
    assert lake.table("takedowns").version() == version


def test_an_empty_table_is_left_alone(lake: Lake) -> None:
    assert maintenance.compact(lake, "tags").files_after == 0


def test_files_beyond_the_target_size_are_left_alone(lake: Lake) -> None:
    fill(lake, 0, 6)
    size = max(one.size for one in maintenance.data_files(lake.table("takedowns")))
    result = maintenance.compact(lake, "takedowns", target_bytes=size * 2 + 100)
    assert 1 < result.files_after < 6
    assert values(lake) == expected(30)


def test_compactions_and_appends_at_once_keep_every_row_once(lake: Lake) -> None:
    fill(lake, 0, 15)
    with ThreadPoolExecutor(4) as pool:
        rewrites = [pool.submit(maintenance.compact, lake, "takedowns") for _ in range(3)]
        append = pool.submit(fill, lake, 15, 10)
        for one in (*rewrites, append):
            one.result()
    maintenance.compact(lake, "takedowns")
    assert values(lake) == expected(125)
    assert lake.table("takedowns").to_pyarrow_table().num_rows == 125


def test_a_rewrite_of_files_that_another_replaced_is_refused(lake: Lake) -> None:
    fill(lake, 0, 4)
    stale = lake.table("takedowns")
    group = maintenance.data_files(stale)
    maintenance.compact(lake, "takedowns")
    rows = [maintenance.read_file(lake, "takedowns", group[0])]
    parts, error = _swap(lake, "takedowns", stale, maintenance.Change(group, rows, same_rows=True))
    assert parts is None
    assert error is not None
    assert values(lake) == expected(20)


def test_an_append_repeated_after_compaction_adds_nothing(lake: Lake) -> None:
    fill(lake, 0, 3)
    maintenance.compact(lake, "takedowns")
    fill(lake, 0, 3)
    assert values(lake) == expected(15)


def test_a_file_with_other_rows_than_the_log_says_stops_the_rewrite(lake: Lake) -> None:
    fill(lake, 0, 2)
    one, other = (Path(uri) for uri in lake.table("takedowns").file_uris())
    fill(lake, 2, 1, rows=2)
    short = next(Path(u) for u in lake.table("takedowns").file_uris() if Path(u) not in (one, other))
    one.write_bytes(short.read_bytes())
    with pytest.raises(DataError, match="nothing was changed"):
        maintenance.compact(lake, "takedowns")


def test_stats_add_up(lake: Lake) -> None:
    fill(lake, 0, 3)
    found = {one.table: one for one in maintenance.stats(lake)}
    assert set(found) == set(TABLES)
    assert (found["takedowns"].rows, found["takedowns"].files) == (15, 3)
    assert found["takedowns"].bytes == sum(Path(uri).stat().st_size for uri in lake.table("takedowns").file_uris())


def test_a_checkpoint_is_written(lake: Lake) -> None:
    fill(lake, 0, 1)
    version = maintenance.checkpoint(lake, "takedowns")
    log = Path(lake.table_uri("takedowns")) / "_delta_log"
    assert list(log.glob(f"{version:020d}.checkpoint*.parquet"))


def make_old(lake: Lake, hours: int) -> None:
    """Let the removals of all tables have happened hours ago, as the log tells it."""
    moment = int((time.time() - hours * 3600) * 1000)
    log = Path(lake.table_uri("takedowns")) / "_delta_log"
    for file in log.glob("*.json"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] = moment
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(file, (moment / 1000, moment / 1000))


def test_vacuum_deletes_replaced_files_only_after_the_retention(lake: Lake) -> None:
    fill(lake, 0, 3)
    old = lake.table("takedowns").file_uris()
    maintenance.compact(lake, "takedowns")
    assert maintenance.vacuum(lake, "takedowns") == []
    make_old(lake, 24 * 8)
    assert len(maintenance.vacuum(lake, "takedowns", dry_run=True)) == 3
    assert all(Path(uri).exists() for uri in old)
    assert len(maintenance.vacuum(lake, "takedowns")) == 3
    assert not any(Path(uri).exists() for uri in old)
    assert values(lake) == expected(15)


def test_vacuum_keeps_what_a_manifest_was_built_from(lake: Lake) -> None:
    fill(lake, 0, 3)
    versions = dict(Snapshot.take(lake).versions)
    row = {"name": "m", "version": "v", "format": "coco", "path": "manifests/m/v", "n_images": 1, "n_annotations": 1}
    row |= {"lock": json.dumps({"tables": versions}), "built_at": datetime.now(UTC)}
    lake.append("manifests", [row], digest("manifest"))
    maintenance.compact(lake, "takedowns")
    make_old(lake, 24 * 8)
    assert maintenance.vacuum(lake, "takedowns") == []
    pinned = lake.table("takedowns", versions["takedowns"]).to_pyarrow_table()
    assert sorted(pinned["value"].to_pylist()) == expected(15)


def test_vacuum_leaves_parts_that_wait_for_their_commit(lake: Lake) -> None:
    fill(lake, 0, 2)
    waiting = Path(lake.table_uri("takedowns")) / "parts" / "order" / "00000-waiting.parquet"
    waiting.parent.mkdir()
    waiting.write_bytes(b"not yet committed")
    os.utime(waiting, (0, 0))
    maintenance.vacuum(lake, "takedowns")
    assert waiting.exists()


def test_a_retention_below_seven_days_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="7 days"):
        maintenance.vacuum(lake, "takedowns", retention_hours=1)
