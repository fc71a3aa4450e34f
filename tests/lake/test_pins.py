"""What built manifests pin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rows import at, row

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.parts import data_paths
from etl.lake.pins import manifest_versions, pinned_files, pinned_versions, read_pins


def build(lake: Lake, name: str, tables: Any, *, version: str = "v", hour: float = 0) -> None:
    """Register a manifest as if it had been built from these versions."""
    values = {"name": name, "version": version, "built_at": at(hour), "lock": json.dumps({"tables": tables})}
    lake.append("manifests", [row("manifests", **values)], f"{name} {version}")


def append(lake: Lake, count: int) -> None:
    for number in range(count):
        lake.append("runs", [row("runs", images=number)], f"unit{number}")


def test_without_manifests_nothing_is_pinned(lake: Lake) -> None:
    assert (pinned_versions(lake), pinned_files(lake, "tags")) == ({}, set())


def test_versions_are_those_of_all_locks(lake: Lake) -> None:
    build(lake, "one", {"tags": 3, "runs": 0})
    build(lake, "two", {"tags": 1})
    build(lake, "three", {"tags": 3})
    assert pinned_versions(lake) == {"tags": [1, 3], "runs": [0]}


def test_pins_come_oldest_first(lake: Lake) -> None:
    build(lake, "late", {"tags": 1}, hour=2)
    build(lake, "early", {"tags": 2}, hour=1)
    assert [pin.name for pin in read_pins(lake)] == ["early", "late"]


def test_files_that_a_later_compaction_removed_stay_pinned(lake: Lake) -> None:
    append(lake, 3)
    build(lake, "one", {"runs": 2})
    before = data_paths(lake.table("runs"))
    maintenance.compact(lake, "runs")
    assert pinned_files(lake, "runs") == set(data_paths(lake.table("runs", 2))) < set(before)


def test_files_are_pinned_as_the_log_names_them_and_as_a_takedown_left_them(lake: Lake) -> None:
    append(lake, 2)
    build(lake, "one", dict(Snapshot.take(lake).versions))
    old, gone = data_paths(lake.table("runs"))
    for number, (path, new) in enumerate({old: "parts/new.parquet", gone: None}.items()):
        values = {"table_name": "runs", "old_path": path, "new_path": new}
        lake.append("rewrites", [row("rewrites", **values)], f"rewrite{number}")
    assert pinned_files(lake, "runs") == {old, gone, "parts/new.parquet"}


def test_a_pinned_version_that_cannot_be_opened_is_an_error_not_an_empty_answer(lake: Lake) -> None:
    build(lake, "one", {"runs": 7})
    with pytest.raises(ConfigurationError, match=r"'runs' of .* has no version 7"):
        pinned_files(lake, "runs")


@pytest.mark.parametrize("tables", [None, 7, {"tags": "x"}])
def test_a_lock_without_versions_names_its_manifest(lake: Lake, tables: Any) -> None:
    build(lake, "broken", tables)
    with pytest.raises(DataError, match="broken/v"):
        pinned_versions(lake)


class TestManifestVersions:
    @pytest.fixture
    def built(self, lake: Lake) -> Lake:
        build(lake, "one", {"tags": 1}, version="a", hour=1)
        build(lake, "one", {"tags": 2}, version="b", hour=2)
        return lake

    def test_the_last_built_counts_unless_another_is_named(self, built: Lake) -> None:
        assert manifest_versions(built, "one") == {"tags": 2}
        assert manifest_versions(built, "one", "a") == {"tags": 1}

    def test_unknown_ones_are_answered_with_the_known(self, built: Lake) -> None:
        with pytest.raises(UnknownNameError, match="known: one"):
            manifest_versions(built, "other")
        with pytest.raises(UnknownNameError, match="known: a, b"):
            manifest_versions(built, "one", "c")
