"""What readers see: complete units, one annotation per image and annotator, no picture that was taken down."""

from __future__ import annotations

from typing import Any

import pytest
from rows import at, image, row

from etl.lake import Lake, Snapshot
from etl.lake.ids import url_digest

A, B, C = (image(name) for name in "abc")


def show(lake: Lake, query: str) -> list[Any]:
    """The rows of a query; plain values where it has one column."""
    with Snapshot.take(lake).connect() as connection:
        return [found[0] if len(found) == 1 else found for found in connection.sql(query).fetchall()]


def add(lake: Lake, table: str, *rows: dict[str, Any], key: str) -> None:
    lake.append(table, [row(table, **values) for values in rows], key)


def ingest(lake: Lake, shard: str, *images: str, planned: float = 0, settle: bool = True, attempt: int = 1) -> None:
    """A shard whose pictures were found under one url each; settled unless the process died before."""
    unit = f"{shard}-{attempt}"
    place = {"shard_id": shard, "attempt": attempt}
    found = {"shard_id": shard, "unit": unit, "source": "web", "url": f"http://{shard}/"}
    add(lake, "shards", {**place, "source": "web", "planned_at": at(planned)}, key=f"{unit} planned")
    rows = [{**place, "image_id": image, "unit": unit, "offset": n} for n, image in enumerate(images)]
    add(lake, "images", *rows, key=unit)
    add(lake, "sightings", *({**found, "image_id": image} for image in images), key=unit)
    if settle:
        add(lake, "downloads", *({**place, "image_id": image, "unit": unit} for image in images), key=unit)


def annotate(
    lake: Lake,
    unit: str,
    image: str,
    *,
    status: str = "ok",
    requested: float = 0,
    annotator: str = "new",
    settle: bool = True,
) -> None:
    """One order of the tag stage over one picture: the tag is named after the order."""
    common = {"image_id": image, "annotator_id": annotator, "unit": unit}
    if status == "ok":
        add(lake, "tags", {**common, "tags": [{"tag": unit, "score": 0.5}]}, key=unit)
    if settle:
        outcome = {**common, "stage": "tag", "status": status, "requested_at": at(requested)}
        add(lake, "outcomes", outcome, key=unit)


def promote(lake: Lake, annotator: str, when: float = 0) -> None:
    values = {"stage": "tag", "source": "web", "annotator_id": annotator, "promoted_at": at(when)}
    add(lake, "current", values, key=f"promote {annotator} {when}")


class TestImages:
    def test_a_shard_shows_when_it_is_settled(self, lake: Lake) -> None:
        ingest(lake, "one", A, B)
        ingest(lake, "two", C, settle=False)
        assert show(lake, "select image_id from images order by 1") == [A, B]
        assert show(lake, "select image_id from sightings order by 1") == [A, B]

    def test_a_picture_stored_twice_shows_the_copy_planned_first_not_the_one_finished_first(self, lake: Lake) -> None:
        ingest(lake, "late", A, planned=2)
        ingest(lake, "early", A, planned=1)
        assert show(lake, "select image_id, shard_id from images") == [(A, "early")]
        assert len(show(lake, "select url from sightings")) == 2, "both places it was found"

    @pytest.mark.parametrize("order", [("s1", "s2"), ("s2", "s1")])
    def test_copies_planned_at_once_are_told_apart_by_shard(self, lake: Lake, order: tuple[str, str]) -> None:
        for shard in order:
            ingest(lake, shard, A)
        assert show(lake, "select shard_id from images") == ["s1"]

    def test_twice_in_one_shard_shows_the_first_in_the_tar(self, lake: Lake) -> None:
        ingest(lake, "one", A, A)
        assert show(lake, 'select "offset" from images') == [0]

    def test_a_shard_planned_twice_doubles_nothing(self, lake: Lake) -> None:
        ingest(lake, "one", A)
        add(lake, "shards", {"shard_id": "one", "attempt": 1, "source": "web"}, key="planned by another request")
        assert show(lake, "select image_id from images") == [A]


# The orders over one picture by one annotator, as (name, status, requested at), and the one whose rows show.
VISIBLE = {
    "one": ([("first", "ok", 0)], "first", ["first"]),
    "the later request": ([("first", "ok", 0), ("second", "ok", 1)], "second", ["second"]),
    "the later request, committed first": ([("second", "ok", 1), ("first", "ok", 0)], "second", ["second"]),
    "requests at once: the higher key": ([("k2", "ok", 0), ("k1", "ok", 0)], "k2", ["k2"]),
    "a failed re-run hides nothing": ([("first", "ok", 0), ("second", "failed", 1)], "first", ["first"]),
    "a failed re-run of an empty one": ([("first", "empty", 0), ("second", "failed", 1)], "first", []),
    "empty after ok": ([("first", "ok", 0), ("second", "empty", 1)], "second", []),
    "ok after failed": ([("first", "failed", 0), ("second", "ok", 1)], "second", ["second"]),
    "only failures: the latest": ([("first", "failed", 0), ("second", "failed", 1)], "second", []),
}


@pytest.mark.parametrize(("orders", "unit", "tags"), VISIBLE.values(), ids=VISIBLE)
def test_one_outcome_is_visible_and_its_rows_with_it(
    lake: Lake, orders: list[tuple[str, str, float]], unit: str, tags: list[str]
) -> None:
    ingest(lake, "one", A)
    promote(lake, "new")
    for name, status, requested in orders:
        annotate(lake, name, A, status=status, requested=requested)
    assert show(lake, "select unit from outcomes") == [unit]
    assert show(lake, "select unit from tags") == tags


def test_a_unit_that_died_between_its_tables_is_invisible(lake: Lake) -> None:
    ingest(lake, "one", A)
    promote(lake, "new")
    annotate(lake, "dead", A, settle=False)
    assert show(lake, "select unit from tags") == show(lake, "select unit from all_tags") == []
    annotate(lake, "alive", A)
    assert show(lake, "select unit from tags") == ["alive"]


class TestCurrent:
    def test_only_the_promoted_annotator_shows_and_others_stay_readable(self, lake: Lake) -> None:
        ingest(lake, "one", A)
        annotate(lake, "unit1", A, annotator="old")
        annotate(lake, "unit2", A, annotator="new")
        promote(lake, "old")
        assert show(lake, "select annotator_id from tags") == ["old"]
        assert show(lake, "select annotator_id from all_tags order by 1") == ["new", "old"]

    def test_the_latest_promotion_counts(self, lake: Lake) -> None:
        ingest(lake, "one", A)
        annotate(lake, "unit1", A, annotator="old")
        annotate(lake, "unit2", A, annotator="new")
        promote(lake, "new", when=2)
        promote(lake, "old", when=1)
        assert show(lake, "select annotator_id from tags") == ["new"]

    def test_another_source_keeps_its_own(self, lake: Lake) -> None:
        ingest(lake, "one", A)
        annotate(lake, "unit1", A, annotator="old")
        promote(lake, "old")
        values = {"stage": "tag", "source": "other", "annotator_id": "new", "promoted_at": at(5)}
        add(lake, "current", values, key="other")
        assert show(lake, "select annotator_id from tags") == ["old"]


class TestTakedown:
    """A tombstone hides the picture everywhere, however it was named."""

    @pytest.fixture
    def annotated(self, lake: Lake) -> Lake:
        ingest(lake, "one", A, B)
        promote(lake, "new")
        annotate(lake, "unit1", A)
        annotate(lake, "unit2", B)
        return lake

    @pytest.mark.parametrize("view", ["images", "sightings", "outcomes", "all_outcomes", "tags", "all_tags"])
    def test_by_image(self, annotated: Lake, view: str) -> None:
        add(annotated, "takedowns", {"kind": "image_id", "value": A}, key="takedown")
        assert show(annotated, f"select image_id from {view}") == [B]

    def test_by_url(self, annotated: Lake) -> None:
        add(annotated, "takedowns", {"kind": "url_sha256", "value": url_digest("http://one/")}, key="takedown")
        assert show(annotated, "select image_id from images") == []

    def test_by_bytes_as_downloaded(self, annotated: Lake) -> None:
        add(annotated, "takedowns", {"kind": "source_sha256", "value": "x"}, key="takedown")
        assert show(annotated, "select image_id from images") == []

    def test_it_holds_for_a_copy_that_arrives_later(self, annotated: Lake) -> None:
        add(annotated, "takedowns", {"kind": "image_id", "value": A}, key="takedown")
        ingest(annotated, "two", A, C)
        assert show(annotated, "select image_id from images order by 1") == [B, C]


def test_an_embedding_of_a_text_shows_once_however_many_orders_made_it(lake: Lake) -> None:
    for unit in ("unit1", "unit2"):
        values = {"text_sha256": image("b"), "annotator_id": "new", "unit": unit, "vector": [1.0]}
        add(lake, "embeddings", values, key=unit)
        annotate(lake, unit, A)
    add(lake, "embeddings", {"text_sha256": image("c"), "annotator_id": "new", "unit": "dead"}, key="dead")
    assert show(lake, "select text_sha256 from embeddings") == [image("b")]


def test_sources_and_annotators_show_their_latest_and_first_row(lake: Lake) -> None:
    add(lake, "sources", {"name": "web", "n_urls": 1, "seen_at": at(1)}, key="s1")
    add(lake, "sources", {"name": "web", "n_urls": 2, "seen_at": at(2)}, key="s2")
    add(lake, "annotators", {"annotator_id": "new", "model": "m1", "created_at": at(1)}, key="a1")
    add(lake, "annotators", {"annotator_id": "new", "model": "m2", "created_at": at(2)}, key="a2")
    assert show(lake, "select n_urls from sources") == [2]
    assert show(lake, "select model from annotators") == ["m1"]
