"""Rows that are null, there twice, gone, or without what they belong to are found; what is under way is no damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rows import at
from sound_lake import Sound

from etl.lake import Lake, maintenance
from etl.lake.check import Finding, Scope, repair
from etl.lake.check.bench import Bench
from etl.lake.check.files import check_content, check_files
from etl.lake.check.orphans import check_orphans
from etl.lake.check.rows import check_rows
from etl.lake.check.units import check_orders, check_units, slice_parts
from etl.lake.ids import digest
from etl.lake.maintenance import Change, data_files, rewrite
from etl.lake.parts import add_action
from etl.lake.schemas import TABLES
from etl.settings import Settings

Run = Callable[..., list[Finding]]
OTHER = digest("no such thing")


def lose(lake: Lake, table: str) -> None:
    """Take all rows of a table out of its log."""
    rewrite(lake, table, lambda handle: Change(files, []) if (files := data_files(handle)) else None)


def hurt(made: Sound) -> None:
    """Everything that can be wrong with rows, each in a unit or on an image of its own where it would hide another."""
    who, own = digest("annotator", "tag"), {"shard_id": made.shard}
    made.force("tags", {"image_id": None, "annotator_id": who, "unit": OTHER})
    made.copy_rows("outcomes", 2)
    made.copy_rows("instances", 3)
    made.copy_rows("shards", 1)
    ingest, extra = made.units["ingest"], digest("extra")
    made.force(
        "downloads", own | {"url_sha256": extra, "unit": ingest, "attempt": 1, "status": "ok", "image_id": extra}
    )
    made.force("downloads", own | {"url_sha256": OTHER, "unit": ingest, "attempt": 1, "status": "ok", "image_id": None})
    made.force("images", own | {"image_id": digest("loose"), "unit": ingest, "attempt": 1, "tar": made.tar})
    made.force("captions", {"image_id": OTHER, "annotator_id": who, "unit": made.units["caption"], "instance_id": None})
    who = digest("annotator", "caption")
    row = {"image_id": made.ids[0], "annotator_id": who, "unit": made.units["caption"], "instance_id": OTHER}
    made.force("captions", row)
    made.force("current", {"stage": "tag", "source": "other", "annotator_id": OTHER})


@pytest.fixture(scope="module")
def found(template: Sound, tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """What the checks of rows say of a lake with all of this in it."""
    place = tmp_path_factory.mktemp("hurt")
    shutil.copytree(template.lake.uri, place / "lake")
    made = replace(template, lake=Lake.open(str(place / "lake"), Settings(scratch=place / "scratch")))
    hurt(made)
    return list(_run(made))


def _run(made: Sound) -> Iterator[Finding]:
    with Bench(made.lake, Scope(tuple(TABLES))) as bench:
        for one in (check_rows, check_orphans, check_units, check_orders):
            yield from one(bench, lambda done, total: None)


@pytest.mark.parametrize(
    ("check", "message", "count"),
    [
        ("rows.null_id", "table tags: rows without an id", 1),
        ("rows.twice", "table outcomes: more than one row of one (image_id, annotator_id, unit)", 2),
        ("rows.twice", "table instances: more than one row of one (image_id, instance_id, unit)", 3),
        ("rows.twice", "table shards: more than one row of one (shard_id, attempt)", 1),
        ("rows.urls", "shards with more settled urls than they list", 1),
        ("rows.order", "orders with more outcomes than images", 1),
        ("rows.picture", "downloads that are ok, but name no picture", 1),
        ("rows.picture", "pictures downloaded, but not in table images", 1),
        ("rows.picture", "pictures downloaded, but without sighting", 1),
        ("rows.picture", "images whose download is not in table downloads, although their unit is committed", 1),
        ("orphans.outcome", "table captions: rows without an outcome, although their unit is committed", 1),
        ("orphans.image", "table captions: rows whose picture is not in table images", 1),
        ("orphans.instance", "captions of instances that do not exist", 1),
        ("orphans.annotator", "table current: annotators that table annotators does not know", 1),
        ("units.twice", "units have more rows in a table than their slices", 5),
    ],
)
def test_what_is_wrong_with_rows_is_found_and_counted(
    found: list[Finding], check: str, message: str, count: int
) -> None:
    named = [one for one in found if (one.check, one.message) == (check, message)]
    assert [(one.severity, one.count) for one in named] == [("error", count)], "\n".join(map(str, found))
    assert named[0].example
    assert named[0].remedy


def test_a_sound_lake_has_nothing_wrong(made: Sound, run: Run) -> None:
    assert run(made, everything=True) == []


def test_rows_that_went_are_found_by_what_is_left(made: Sound, run: Run) -> None:
    lose(made.lake, "tags")
    assert [one.count for one in run(made, check_rows, "tags") if one.check == "rows.lost"] == [12]
    (gone,) = run(made, check_units, "tags")
    assert (gone.check, gone.count) == ("units.lost", 12)


def test_rows_that_a_takedown_says_it_removed_are_not_missed(made: Sound, run: Run) -> None:
    lose(made.lake, "embeddings")
    made.append("rewrites", {"table_name": "embeddings", "old_path": "old", "rows_removed": 12, "rewritten_at": at(0)})
    assert run(made, check_units) == []


def test_a_unit_committed_in_part_is_found_and_repaired(made: Sound, run: Run) -> None:
    """As after an entry of the log was lost together with its transaction."""
    rows = made.lake.table("instances").to_pyarrow_table().num_rows
    (Path(made.lake.table_uri("instances")) / "_delta_log" / f"{1:020d}.json").unlink()
    (found,) = run(made, check_units)
    assert (found.check, "check --repair" in found.remedy) == ("units.partly", True)
    list(repair(made.lake))
    assert made.lake.table("instances").to_pyarrow_table().num_rows == rows
    assert run(made, check_units) == []


def unfinished(made: Sound) -> str:
    """A unit that was committed to its first table only."""
    unit = made.annotate("ground", run="second", commit=False)
    parts = [part for part in slice_parts(made.lake, unit) if part.table == "instances"]
    made.lake.commit("instances", unit, [add_action(made.lake.store, part) for part in parts])
    return unit


def test_rows_of_a_unit_that_is_open_are_no_damage(made: Sound, run: Run) -> None:
    unfinished(made)
    notes = [*run(made, check_orphans, "instances"), *run(made, check_orders)]
    assert {one.severity for one in notes} == {"note"}
    assert [one.count for one in notes if one.check == "orphans.outcome"] == [12]
    assert [one.count for one in notes if one.check == "orders.open"] == [1]


def test_rows_of_a_unit_without_progress_for_days_ask_for_a_sweep(
    made: Sound, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    unfinished(made)
    now = time.time()
    monkeypatch.setattr("etl.lake.check.bench.time.time", lambda: now + 8 * 86_400)
    errors = [
        one for one in [*run(made, check_orphans, "instances"), *run(made, check_orders)] if one.severity == "error"
    ]
    assert {one.check for one in errors} == {"orphans.outcome", "orders.dead"}
    assert all("groundlake lake sweep" in one.remedy for one in errors)


def test_a_part_that_an_open_order_waits_for_is_missed(made: Sound, run: Run) -> None:
    unit = made.annotate("tag", run="second", commit=False)
    part = next(Path(made.lake.table_uri("tags"), "parts", unit).iterdir())
    part.unlink()
    (found,) = [one for one in run(made, check_orders) if one.check == "orders.parts"]
    assert (found.count, part.name in found.example) == (1, True)


def test_a_registered_order_without_its_list_is_found(made: Sound, run: Run) -> None:
    made.append("orders", {"unit": OTHER, "stage": "tag", "items": f"units/{OTHER}/items-1.json"})
    (found,) = run(made, check_orders)
    assert (found.check, found.severity) == ("orders.list", "error")


def test_a_registered_order_that_is_not_published_yet_is_no_damage(made: Sound, run: Run) -> None:
    made.append("orders", {"unit": OTHER, "stage": "tag", "items": f"units/{OTHER}/items-1.json"})
    made.lake.store.put(f"units/{OTHER}/items-1.json", b"{}")
    assert {one.severity for one in run(made, check_orders)} == {"note"}


def test_compaction_changes_nothing_of_what_is_checked(made: Sound, run: Run) -> None:
    for name in ("outcomes", "downloads", "instances"):
        maintenance.compact(made.lake, name)
    assert run(made, check_files) == run(made, check_content, everything=True) == run(made, check_units) == []


def taken_down(made: Sound, *events: str) -> None:
    given: dict[str, Any] = {"kind": "image_id", "value": made.ids[0], "takedown_id": "t1"}
    made.append("takedowns", given)
    for event in events:
        made.append("takedown_events", {"takedown_id": "t1", "event": event})


def test_rows_of_a_picture_whose_takedown_is_under_way_are_no_damage(made: Sound, run: Run) -> None:
    taken_down(made, "requested", "rewritten")
    found = run(made, check_orphans, "images", "tags")
    assert {(one.check, one.severity) for one in found} == {("takedown.rows", "note")}
    assert {one.message.split(":")[0] for one in found} == {"table images", "table tags"}


def test_rows_of_a_picture_that_is_said_purged_are_found(made: Sound, run: Run) -> None:
    taken_down(made, "requested", "rewritten", "purged")
    found = run(made, check_orphans, "tags")
    assert [(one.severity, "takedown purge" in one.remedy) for one in found] == [("error", True)]
