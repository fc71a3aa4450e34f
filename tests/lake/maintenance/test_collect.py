"""gc: the rows of annotators that nothing shows go; what shows, what it rests on, and what manifests pin stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from deltalake import DeltaTable
from lake_ageing import Killed, age_log, killed_at, register_manifest
from rows import at, image, row

from etl.errors import ConfigurationError, RetryableError, UnknownNameError
from etl.lake import Lake, Snapshot, maintenance
from etl.lake.ids import digest
from etl.lake.orders import open_order

IMAGES = [image(f"{n:02d}") for n in range(4)]
OLD, NEW, GROUND = "old-tagger", "new-tagger", "grounder"


def annotate(lake: Lake, annotator: str, stage: str, values: dict[str, str], given: dict[str, str]) -> None:
    """One order: outcomes with the value and input of every image, and the rows of the stage."""
    unit = digest("order", annotator)
    common = {"annotator_id": annotator, "unit": unit}
    table = "tags" if stage == "tag" else "instances"
    lake.append(
        "annotators", [row("annotators", annotator_id=annotator, stage=stage, model=annotator, kind="model")], annotator
    )
    lake.append(table, [row(table, image_id=one, **common) for one in values], unit)
    outcomes = [
        row("outcomes", image_id=one, stage=stage, value_digest=value, input_digest=given[one], **common)
        for one, value in values.items()
    ]
    lake.append("outcomes", outcomes, unit)


def promote(lake: Lake, annotator: str, stage: str, when: float) -> None:
    values = {"stage": stage, "source": "web", "annotator_id": annotator, "promoted_at": at(when)}
    lake.append("current", [row("current", **values)], f"promote {annotator} {when}")


@pytest.fixture
def tagged(lake: Lake) -> Lake:
    """An old tagger, a new one that agrees with it on all images, and a grounder that read the old one's tags."""
    values = {one: f"tags of {one}" for one in IMAGES}
    annotate(lake, OLD, "tag", values, {one: one for one in IMAGES})
    annotate(lake, NEW, "tag", values, {one: one for one in IMAGES})
    annotate(lake, GROUND, "ground", {one: f"boxes of {one}" for one in IMAGES}, values)
    promote(lake, OLD, "tag", 0)
    promote(lake, NEW, "tag", 1)
    promote(lake, GROUND, "ground", 0)
    return lake


def disagree(lake: Lake) -> None:
    """A third tagger, current now, that says something else of one image than the grounder has read."""
    values = {one: f"tags of {one}" for one in IMAGES[1:]} | {IMAGES[0]: "other tags"}
    annotate(lake, "third-tagger", "tag", values, {one: one for one in IMAGES})
    promote(lake, "third-tagger", "tag", 2)


def why(lake: Lake) -> dict[str, str | None]:
    return {one.annotator_id: one.kept for one in maintenance.candidates(lake)}


def left(lake: Lake, table: str) -> dict[str, int]:
    found = lake.table(table).to_pyarrow_table()["annotator_id"].to_pylist()
    return {annotator: found.count(annotator) for annotator in sorted(set(found))}


def test_an_annotator_that_no_source_shows_is_superseded(tagged: Lake) -> None:
    known = maintenance.candidates(tagged)
    shown = "current for web"
    assert {one.annotator_id: one.kept for one in known} == {OLD: None, NEW: shown, GROUND: shown}
    assert [one.annotator_id for one in maintenance.choose(known, [])] == [OLD]


def test_one_that_shown_results_rest_on_is_kept_unless_it_is_named(tagged: Lake) -> None:
    disagree(tagged)
    known = maintenance.candidates(tagged)
    kept = {one.annotator_id: one.kept for one in known}
    assert kept[OLD] == kept[NEW] == "what shown results rest on"
    assert maintenance.choose(known, []) == []
    assert [one.annotator_id for one in maintenance.choose(known, ["old"])] == [OLD]


def test_what_a_kept_one_rests_on_is_kept_too(lake: Lake) -> None:
    tags, boxes = ({one: f"{what} {one}" for one in IMAGES} for what in ("tags", "boxes"))
    annotate(lake, OLD, "tag", tags, {one: one for one in IMAGES})
    annotate(lake, GROUND, "ground", boxes, tags)
    annotate(lake, "captioner", "caption", dict.fromkeys(IMAGES, "captions"), boxes)
    promote(lake, "captioner", "caption", 0)
    assert why(lake) == {"captioner": "current for web", **dict.fromkeys([OLD, GROUND], "what shown results rest on")}


def test_one_that_an_open_order_uses_is_kept(tagged: Lake) -> None:
    header = {"stage": "ground", "annotator_id": "another", "upstream": {"tag": OLD}}
    open_order(tagged, digest("open"), header, lambda: [])
    known = maintenance.candidates(tagged)
    with pytest.raises(ConfigurationError, match=f"in use by the open order {digest('open')}: its rows must stay"):
        maintenance.choose(known, [OLD])
    with pytest.raises(RetryableError, match="is open"):
        maintenance.collect(tagged, [OLD])


def test_one_that_a_registered_order_is_for_is_kept(tagged: Lake) -> None:
    tagged.append("orders", [row("orders", unit=digest("waiting"), annotator_id=OLD)], digest("waiting"))
    assert why(tagged)[OLD] == f"in use by the open order {digest('waiting')}"


def test_ground_truth_and_what_is_current_are_never_dropped(tagged: Lake) -> None:
    values = {"annotator_id": "coco", "stage": "tag", "kind": "dataset"}
    tagged.append("annotators", [row("annotators", **values)], "coco")
    known = maintenance.candidates(tagged)
    for name, reason in (("coco", "of kind dataset"), (NEW, "current for web")):
        with pytest.raises(ConfigurationError, match=f"is {reason}: its rows must stay"):
            maintenance.choose(known, [name])


def test_an_id_must_begin_like_exactly_one(tagged: Lake) -> None:
    tagged.append("annotators", [row("annotators", annotator_id="older", kind="model")], "older")
    known = maintenance.candidates(tagged)
    for name, message in (("old", "ambiguous"), ("x", "unknown annotator 'x'")):
        with pytest.raises(UnknownNameError, match=message):
            maintenance.choose(known, [name])


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_go_from_every_table_and_those_of_others_stay(tagged: Lake, compacted: bool) -> None:
    if compacted:
        for table in ("tags", "outcomes"):
            maintenance.compact(tagged, table)
    before = {
        name: sum(one.size for one in maintenance.data_files(tagged.table(name))) for name in ("tags", "outcomes")
    }
    planned = maintenance.collect(tagged, [OLD], dry_run=True)
    assert left(tagged, "tags") == {NEW: 4, OLD: 4}
    done = maintenance.collect(tagged, [OLD])
    assert [(one.table, one.rows, one.files) for one in done] == [("outcomes", 4, 1), ("tags", 4, 1)]
    assert [(one.table, one.rows, one.files) for one in planned] == [(one.table, one.rows, one.files) for one in done]
    assert (left(tagged, "tags"), left(tagged, "outcomes")) == ({NEW: 4}, {GROUND: 4, NEW: 4})
    after = {name: sum(one.size for one in maintenance.data_files(tagged.table(name))) for name in before}
    assert {one.table: one.bytes for one in done} == {name: before[name] - after[name] for name in before}
    assert all(one.bytes >= other.bytes for one, other in zip(done, planned, strict=True))
    assert maintenance.collect(tagged, [OLD]) == []
    assert left(tagged, "annotators")[OLD] == 1


def test_vacuum_frees_the_bytes_after_the_retention_but_for_pinned_ones(tagged: Lake) -> None:
    register_manifest(tagged, {"tags": Snapshot.take(tagged).versions["tags"]})
    done = {one.table: one for one in maintenance.collect(tagged, [OLD])}
    assert (done["tags"].later, done["outcomes"].pinned) == (0, 0)
    assert done["tags"].pinned > 0
    for table in ("tags", "outcomes"):
        age_log(tagged, table, 31)
    assert maintenance.vacuum(tagged, "tags").bytes == 0
    assert maintenance.vacuum(tagged, "outcomes").bytes == done["outcomes"].later


def test_several_annotators_are_one_rewrite_per_file(tagged: Lake) -> None:
    disagree(tagged)
    maintenance.compact(tagged, "tags")
    version = tagged.table("tags").version()
    maintenance.collect(tagged, [OLD, NEW])
    assert tagged.table("tags").version() == version + 1
    assert left(tagged, "tags") == {"third-tagger": 4}


@pytest.mark.parametrize(("nth", "after"), [(1, True), (2, False)])
def test_killed_anywhere_nothing_half_shows_and_the_next_one_does_the_rest(
    tagged: Lake, monkeypatch: pytest.MonkeyPatch, nth: int, after: bool
) -> None:
    with killed_at(monkeypatch, DeltaTable, "create_write_transaction", nth, after=after), pytest.raises(Killed):
        maintenance.collect(tagged, [OLD])
    with Snapshot.take(tagged).connect() as connection:
        [(outcomes, tags)] = connection.execute(
            "select (select count(*) from all_outcomes where annotator_id = $old), "
            "(select count(*) from all_tags where annotator_id = $old)",
            {"old": OLD},
        ).fetchall()
    assert (outcomes, tags) in ((4, 4), (0, 0))
    maintenance.collect(tagged, [OLD])
    assert (left(tagged, "tags"), left(tagged, "outcomes")) == ({NEW: 4}, {GROUND: 4, NEW: 4})


def test_two_at_once_beside_appends_and_compaction(tagged: Lake) -> None:
    def annotate_more() -> None:
        for n in range(5):
            values = dict.fromkeys(IMAGES, "v")
            annotate(tagged, f"later-{n}", "tag", values, {one: one for one in IMAGES})

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(maintenance.collect, tagged, [OLD]) for _ in range(2)]
        work += [pool.submit(maintenance.compact, tagged, "tags"), pool.submit(annotate_more)]
        for one in work:
            one.result()
    maintenance.collect(tagged, [OLD])
    assert left(tagged, "tags") == {NEW: 4, **{f"later-{n}": 4 for n in range(5)}}
