"""``groundlake lake compact|checkpoint|vacuum|sweep|gc``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import Handmade, Picture, Thing, annotator_id
from lake_ageing import age_files, age_log, tree
from rows import row

from etl.lake import Lake
from etl.lake.ids import digest
from etl.lake.orders import open_order
from etl.lake.schemas import TABLES

Command = Callable[..., Any]
PICTURE = Picture(size=(20, 20), things=[Thing("dog", (1, 1, 9, 9), "a dog")])
OLD = digest("old tagger")


@pytest.fixture
def care(groundlake: Command, lake: Lake) -> Command:
    """``groundlake lake …`` on the lake of the test."""
    return lambda *arguments: groundlake("lake", *arguments, "--lake", lake.uri)


@pytest.fixture
def annotated(lake: Lake) -> Lake:
    """Three shards, one of them with annotations; and the tags of a tagger that no source shows."""
    hand = Handmade(lake)
    shard = hand.add(PICTURE)
    for seed in (1, 2):
        hand.add(Picture(size=(20, 20), seed=seed))
    hand.annotate(shard, PICTURE)
    lake.append("annotators", [row("annotators", annotator_id=OLD, stage="tag", model="old", kind="model")], OLD)
    lake.append("tags", [row("tags", annotator_id=OLD, image_id=hand.ids[0])], OLD)
    return lake


def test_compaction_and_checkpoints_go_over_all_tables(care: Command, annotated: Lake) -> None:
    assert "images: 3 files -> 1" in care("compact").out
    assert care("checkpoint").out.count("checkpoint at version") == len(TABLES)
    found = {one["table"]: one for one in json.loads(care("compact", "--json").out)}
    assert found["images"] == {"table": "images", "files_before": 1, "files_after": 1}


def test_an_unknown_table_is_refused_before_anything_happens(care: Command) -> None:
    ran = care("compact", "--table", "pictures")
    assert (ran.code, "known: " in ran.err) == (78, True)


def test_vacuum_says_what_it_would_delete_and_then_deletes_it(care: Command, annotated: Lake) -> None:
    care("compact", "--table", "images")
    age_log(annotated, "images", 20)
    assert "images: 0 files would be deleted" in care("vacuum", "--dry-run").out  # 30 days by default
    assert "images: 3 files would be deleted" in care("vacuum", "--dry-run", "--retention-days", "14").out
    [found] = json.loads(care("vacuum", "--table", "images", "--retention-days", "14", "--json").out)
    assert len(found["paths"]) == 3
    assert found["bytes"] > 0


def test_a_retention_below_seven_days_is_refused(care: Command, lake: Lake) -> None:
    assert care("vacuum", "--retention-days", "6").code == 78


def test_sweep_shows_and_then_removes_what_is_dead(care: Command, lake: Lake) -> None:
    open_order(lake, digest("dead"), {"stage": "tag", "annotator_id": "a"}, lambda: [])
    age_files(Path(lake.uri) / "units", 5)
    assert "nothing to sweep" in care("sweep").out  # 7 days by default
    before = tree(Path(lake.uri))
    assert "would be removed" in care("sweep", "--days", "3", "--dry-run").out
    assert tree(Path(lake.uri)) == before
    found = json.loads(care("sweep", "--days", "3", "--json").out)
    assert found["dead orders"] == {"count": 1, "bytes": 0}
    assert "nothing to sweep" in care("sweep", "--days", "3").out


def test_a_sweep_after_less_than_a_day_is_refused(care: Command, lake: Lake) -> None:
    ran = care("sweep", "--days", "0")
    assert (ran.code, "choose 1 day or more" in ran.err) == (78, True)


def test_gc_says_of_every_annotator_why_it_is_kept(care: Command, annotated: Lake) -> None:
    shown = care("gc").out
    for found in (OLD[:12], "nothing: superseded", annotator_id("tag")[:12], "current for hand"):
        assert found in shown


def test_gc_drops_rows_only_with_yes(care: Command, annotated: Lake) -> None:
    before = tree(Path(annotated.uri))
    shown = care("gc", "--superseded").out
    assert "would be dropped" in shown
    assert "nothing was changed" in shown
    assert not json.loads(care("gc", "--superseded", "--yes", "--dry-run", "--json").out)["dropped"]
    assert tree(Path(annotated.uri)) == before
    found = json.loads(care("gc", "--annotator", OLD[:6], "--yes", "--json").out)
    assert (found["annotators"], found["dropped"]) == ([OLD], True)
    assert [(one["table"], one["rows"]) for one in found["tables"]] == [("tags", 1)]
    assert "no rows to drop" in care("gc", "--superseded", "--yes").out


def test_gc_of_what_is_shown_is_refused(care: Command, annotated: Lake) -> None:
    ran = care("gc", "--annotator", annotator_id("tag"), "--yes")
    assert (ran.code, "its rows must stay" in ran.err) == (78, True)
    assert care("gc", "--annotator", OLD, "--superseded").code == 78
