"""Which version was the latest at a date, and which can still be read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lake_times import ago, committed, made
from rows import image, row

from etl.errors import ConfigurationError, DataError
from etl.lake import Lake, maintenance, timeline
from etl.lake.timeline import (
    SKEW,
    RetentionError,
    check_versions,
    commit_time,
    readable_since,
    removed_rows,
    version_at,
    versions_at,
)

DAYS = [60, 40, 20, 10]  # ago: when versions 1 to 4 of runs were committed
SECOND = timedelta(seconds=1)


@pytest.fixture
def old(lake: Lake) -> Lake:
    """A lake made 100 days ago, whose table ``runs`` has four versions since."""
    for number in range(len(DAYS)):
        lake.append("runs", [row("runs", images=number)], f"unit{number}")
    made(lake, ago(100))
    for version, days in enumerate(DAYS, start=1):
        committed(lake, "runs", version, ago(days))
    return lake


def pin(lake: Lake, versions: dict[str, int], name: str = "m") -> None:
    lake.append("manifests", [row("manifests", name=name, version="v", lock=json.dumps({"tables": versions}))], name)


class TestVersionAt:
    @pytest.mark.parametrize(("days", "version"), [(29, 2), (20.001, 2), (19.999, 3), (10.001, 3), (9.999, 4), (0, 4)])
    def test_it_is_the_last_one_until_then(self, old: Lake, days: float, version: int) -> None:
        assert version_at(old, "runs", ago(days)) == version

    def test_a_table_made_later_was_empty(self, old: Lake) -> None:
        committed(old, "orders", 0, ago(5))
        assert version_at(old, "orders", ago(20)) == 0

    def test_an_entry_at_the_very_moment_counts(self, old: Lake) -> None:
        when = ago(15).replace(microsecond=0)
        committed(old, "runs", 4, when)
        assert (version_at(old, "runs", when), version_at(old, "runs", when - SECOND)) == (4, 3)

    def test_few_entries_are_read_of_a_long_history(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        start, reads = ago(20), []

        def time_of(lake: Lake, table: str, version: int) -> datetime:
            reads.append(version)
            return start + version * SECOND

        monkeypatch.setattr(timeline, "commit_time", time_of)
        assert timeline._last_until(lake, "runs", start + 77_777 * SECOND, 0, 100_000) == 77_777
        assert len(reads) <= 17

    def test_clocks_that_differ_move_the_answer_no_further_than_they_differ(self, old: Lake) -> None:
        for version, seconds in enumerate([0, 60, 30, 90], start=1):
            committed(old, "runs", version, ago(20) + seconds * SECOND)
        assert version_at(old, "runs", ago(20) - SECOND) == 0
        assert version_at(old, "runs", ago(20) + 45 * SECOND) in (1, 2, 3)
        assert version_at(old, "runs", ago(20) + 100 * SECOND) == 4

    def test_an_entry_without_a_time_has_that_of_its_file(self, old: Lake) -> None:
        entry = Path(old.table_uri("runs")) / "_delta_log" / f"{4:020d}.json"
        lines = [line for line in entry.read_text().splitlines() if "commitInfo" not in line]
        entry.write_text("\n".join(lines))
        assert abs(commit_time(old, "runs", 4) - datetime.now(UTC)) < timedelta(minutes=1)

    @pytest.mark.parametrize("content", [None, "{"])
    def test_a_damaged_log_is_named(self, old: Lake, content: str | None) -> None:
        entry = Path(old.table_uri("runs")) / "_delta_log" / f"{2:020d}.json"
        entry.unlink() if content is None else entry.write_text(content)
        with pytest.raises(DataError, match=entry.name):
            commit_time(old, "runs", 2)


class TestDates:
    def test_without_a_zone(self, old: Lake) -> None:
        with pytest.raises(ConfigurationError, match=r"no time zone(.|\n)*\+00:00"):
            version_at(old, "runs", datetime(2026, 1, 1))

    def test_in_the_future(self, old: Lake) -> None:
        with pytest.raises(ConfigurationError, match="in the future"):
            version_at(old, "runs", ago(-1))
        assert version_at(old, "runs", datetime.now(UTC) + SKEW / 2) == 4, "another machine's now"

    def test_before_the_lake(self, lake: Lake) -> None:
        with pytest.raises(ConfigurationError, match=r"there was no lake(.|\n)*choose a date since") as caught:
            version_at(lake, "runs", ago(1))
        assert not isinstance(caught.value, RetentionError)

    def test_past_the_retention(self, old: Lake) -> None:
        pin(old, {"runs": 1}, name="kept")
        with pytest.raises(RetentionError, match=r"retention of 30 days(.|\n)*dates since(.|\n)*kept/v"):
            version_at(old, "runs", ago(31))

    def test_the_earliest_is_the_retention_ago(self, old: Lake) -> None:
        assert abs(readable_since(old) - ago(30)) < timedelta(minutes=1)


class TestVersions:
    def test_one_that_was_the_latest_within_the_retention_is_readable_however_old(self, old: Lake) -> None:
        check_versions(old, {"runs": 2})  # committed 40 days ago, replaced 20 days ago

    def test_one_replaced_before_the_retention_is_refused_with_what_is_left(self, old: Lake) -> None:
        pin(old, {"tags": 0}, name="other")
        with pytest.raises(RetentionError, match=r"version 1 of table 'runs', of .*retention of 30 days") as caught:
            check_versions(old, {"runs": 1})
        assert caught.value.remedy == "readable are its versions 2 to 4"
        assert str(ago(60).date()) in str(caught.value)

    def test_what_a_manifest_was_built_from_stays_readable(self, old: Lake) -> None:
        pin(old, {"runs": 1}, name="kept")
        check_versions(old, {"runs": 1})
        with pytest.raises(RetentionError, match="kept/v"):
            check_versions(old, {"runs": 0})

    def test_the_latest_is_readable_however_old(self, old: Lake) -> None:
        check_versions(old, {"tags": 0})

    @pytest.mark.parametrize("version", [-1, 5, 2**70])
    def test_one_that_never_was_is_answered_with_those_that_were(self, old: Lake, version: int) -> None:
        with pytest.raises(ConfigurationError, match=r"has no version(.|\n)*0 to 4"):
            check_versions(old, {"runs": version})

    def test_only_some_of_many_manifests_are_named(self, old: Lake) -> None:
        for number in range(8):
            pin(old, {"runs": 1}, name=f"m{number}")
        with pytest.raises(RetentionError, match="and 3 more"):
            check_versions(old, {"runs": 0})


class TestTheLakeAtADate:
    def test_rows_are_taken_a_margin_later_than_what_shows_them(self, lake: Lake) -> None:
        """The clock of the process that wrote the tags was ahead of that of the one that wrote the outcomes."""
        for table in ("tags", "outcomes"):
            lake.append(table, [row(table)], "unit")
        made(lake, ago(10))
        committed(lake, "outcomes", 1, ago(5))
        committed(lake, "tags", 1, ago(5) + SKEW / 2)
        found = versions_at(lake, ago(5) + SECOND)
        assert (found["outcomes"], found["tags"]) == (1, 1)
        assert versions_at(lake, ago(5) - SECOND)["outcomes"] == 0

    def test_but_not_after_rows_were_removed(self, lake: Lake) -> None:
        for number in range(2):
            lake.append("tags", [row("tags", image_id=image(str(number)))], f"unit{number}")
        files = maintenance.data_files(lake.table("tags"))
        changes = [maintenance.Change(files[:1], [])]
        maintenance.rewrite(lake, "tags", lambda _: changes.pop() if changes else None)
        made(lake, ago(10))
        for version in (1, 2, 3):
            committed(lake, "tags", version, ago(5) + version * SECOND)
        assert [removed_rows(lake, "tags", version) for version in range(4)] == [False, False, False, True]
        assert versions_at(lake, ago(5))["tags"] == 2

    def test_a_compaction_in_between_does_not_end_the_margin(self, lake: Lake) -> None:
        for number in range(2):
            lake.append("tags", [row("tags", image_id=image(str(number)))], f"unit{number}")
        maintenance.compact(lake, "tags")
        made(lake, ago(10))
        for version in (1, 2, 3):
            committed(lake, "tags", version, ago(5) + version * SECOND)
        assert versions_at(lake, ago(5))["tags"] == 3

    def test_what_is_current_is_as_of_the_date_itself(self, lake: Lake) -> None:
        lake.append("current", [row("current")], "later")
        made(lake, ago(10))
        committed(lake, "current", 1, ago(5) + SECOND)
        assert versions_at(lake, ago(5))["current"] == 0

    def test_tombstones_are_never_as_of_a_date(self, lake: Lake) -> None:
        made(lake, ago(10))
        assert "takedowns" not in versions_at(lake, ago(5))
