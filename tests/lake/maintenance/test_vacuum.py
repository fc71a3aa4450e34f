"""Vacuum deletes what no readable version names, and nothing else."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lake_ageing import Killed, age_log, expected, fill, killed_at, register_manifest, values
from rows import row

from etl.errors import ConfigurationError
from etl.lake import Lake, Snapshot, maintenance

RETENTION = 30


@pytest.fixture
def old(lake: Lake) -> list[Path]:
    """Three files that a compaction replaced, longer ago than the retention."""
    fill(lake, 0, 3)
    files = [Path(uri) for uri in lake.table("takedowns").file_uris()]
    maintenance.compact(lake, "takedowns")
    age_log(lake, "takedowns", RETENTION + 1)
    return files


def test_replaced_files_go_after_the_retention_of_the_settings(lake: Lake) -> None:
    fill(lake, 0, 3)
    old = [Path(uri) for uri in lake.table("takedowns").file_uris()]
    maintenance.compact(lake, "takedowns")
    age_log(lake, "takedowns", RETENTION - 1)
    assert maintenance.vacuum(lake, "takedowns").paths == ()
    age_log(lake, "takedowns", RETENTION + 1)
    size = sum(path.stat().st_size for path in old)
    found = maintenance.vacuum(lake, "takedowns", dry_run=True)
    assert (len(found.paths), found.bytes) == (3, size)
    assert all(path.exists() for path in old)
    assert maintenance.vacuum(lake, "takedowns") == found
    assert not any(path.exists() for path in old)
    assert values(lake) == expected(15)


def test_what_is_gone_is_not_named_again(lake: Lake, old: list[Path]) -> None:
    assert len(maintenance.vacuum(lake, "takedowns").paths) == 3
    assert maintenance.vacuum(lake, "takedowns").paths == ()


def test_killed_half_way_the_next_one_deletes_the_rest(
    lake: Lake, old: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(monkeypatch, lake.store, "delete", 2, after=True), pytest.raises(Killed):
        maintenance.vacuum(lake, "takedowns")
    assert len(maintenance.vacuum(lake, "takedowns").paths) == 1
    assert values(lake) == expected(15)


def test_several_at_once_beside_appends_and_compaction(lake: Lake, old: list[Path]) -> None:
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(maintenance.vacuum, lake, "takedowns") for _ in range(2)]
        work += [pool.submit(fill, lake, 3, 5), pool.submit(maintenance.compact, lake, "takedowns")]
        for one in work:
            one.result()
    assert not any(path.exists() for path in old)
    assert values(lake) == expected(40)


def test_what_a_manifest_was_built_from_stays(lake: Lake) -> None:
    fill(lake, 0, 3)
    versions = dict(Snapshot.take(lake).versions)
    register_manifest(lake, versions)
    maintenance.compact(lake, "takedowns")
    age_log(lake, "takedowns", 80)
    assert maintenance.vacuum(lake, "takedowns").paths == ()
    pinned = lake.table("takedowns", versions["takedowns"]).to_pyarrow_table()
    assert sorted(pinned["value"].to_pylist()) == expected(15)


def test_a_pinned_version_that_cannot_be_opened_stops_it(lake: Lake, old: list[Path]) -> None:
    register_manifest(lake, {"takedowns": 999})
    with pytest.raises(ConfigurationError, match="999"):
        maintenance.vacuum(lake, "takedowns")
    assert all(path.exists() for path in old)


def test_parts_that_wait_for_their_commit_stay(lake: Lake, old: list[Path]) -> None:
    waiting = Path(lake.table_uri("takedowns")) / "parts" / "order" / "00000-waiting.parquet"
    waiting.parent.mkdir()
    waiting.write_bytes(b"not yet committed")
    os.utime(waiting, (0, 0))
    maintenance.vacuum(lake, "takedowns")
    assert waiting.exists()


def test_a_file_whose_name_the_log_encodes_is_deleted_too(lake: Lake) -> None:
    lake.append("takedowns", [row("takedowns", value="000000")], "a b%c é")
    lake.append("takedowns", [row("takedowns", value="000001")], "plain")
    old = list(Path(lake.table_uri("takedowns")).glob("parts/*/*.parquet"))
    maintenance.compact(lake, "takedowns")
    age_log(lake, "takedowns", 80)
    assert len(maintenance.vacuum(lake, "takedowns").paths) == 2
    assert not any(path.exists() for path in old)


def test_a_retention_below_seven_days_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="shorter than 7 days"):
        maintenance.vacuum(lake, "takedowns", retention_days=6)
