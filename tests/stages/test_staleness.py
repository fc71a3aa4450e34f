"""Which images lack a fresh outcome."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from handmade import Picture
from outcome_desk import START, Desk

from etl.lake import Snapshot, parting
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.settings import Network
from etl.stages import planning
from etl.stages.annotators import annotator_of
from etl.stages.registry import stage_class
from etl.stages.staleness import annotator_chain, count_images, count_stale, count_waiting, order_items


@pytest.fixture
def desk(lake, fakes):
    return Desk(lake, fakes)


@pytest.fixture
def shard(hand):
    return hand.add(Picture(size=(60, 40), seed=1), Picture(size=(40, 40), seed=2), Picture(size=(40, 40), seed=3))


class TestOrderItems:
    def test_an_image_without_outcome_is_taken_with_where_its_bytes_are(self, lake, desk, hand, shard):
        items = desk.stale([shard])

        assert {item["image_id"] for item in items} == set(hand.ids)
        stored = {r["image_id"]: r for r in lake.table("images").to_pyarrow_table().to_pylist()}
        for item in items:
            assert item.pop("upstream_status") == "ok"
            assert item.pop("units") == {}
            assert item.pop("upstream_reason") is None
            assert item.pop("tries") == 0
            assert item.pop("input_digest") == item["image_id"]
            assert item == {key: stored[item["image_id"]][key] for key in item}

    def test_items_are_sorted_by_shape_so_that_batches_are_full(self, desk, shard):
        assert [item["width"] for item in desk.stale([shard])] == [40, 40, 60]

    def test_a_fresh_outcome_leaves_nothing_to_do(self, desk, hand, shard):
        desk.outcome(desk.tagger, hand.ids)

        assert desk.stale([shard]) == []

    @pytest.mark.parametrize("status", ["ok", "empty"])
    def test_force_takes_fresh_images_too(self, desk, hand, shard, status):
        desk.outcome(desk.tagger, hand.ids, status=status)

        assert desk.ids([shard], force=True) == set(hand.ids)

    def test_another_annotator_has_everything_to_do(self, desk, hand, shard):
        desk.outcome(replace(desk.tagger, annotator_id="other"), hand.ids)

        assert desk.ids([shard]) == set(hand.ids)

    def test_other_shards_are_left_alone(self, desk, hand, shard):
        hand.add(Picture(seed=9))

        assert desk.ids([shard]) == set(hand.ids[:3])

    def test_a_changed_upstream_value_makes_an_image_stale(self, desk, hand, shard):
        desk.outcome(desk.tagger, hand.ids, value="new")
        desk.outcome(desk.grounder, hand.ids[:1], given=["new"])
        desk.outcome(desk.grounder, hand.ids[1:], given=["old", "old"])

        assert desk.ids([shard], last="ground") == set(hand.ids[1:])

    def test_a_new_tagger_that_says_the_same_leaves_nothing_to_ground(self, desk, hand, shard):
        desk.outcome(desk.tagger, hand.ids, value="same")
        desk.outcome(desk.grounder, hand.ids, given=["same"] * 3)
        tagger = replace(desk.tagger, annotator_id="new tagger")
        desk.outcome(tagger, hand.ids, value="same")

        assert order_items(Snapshot.take(desk.lake), [shard], [tagger, desk.grounder], force=False) == []

    def test_an_image_without_upstream_outcome_waits(self, desk, hand, shard):
        unit = desk.outcome(desk.tagger, hand.ids[:1])

        (item,) = desk.stale([shard], last="ground")

        assert (item["image_id"], item["units"], item["input_digest"]) == (hand.ids[0], {"tag": unit}, "value")
        assert count_waiting(Snapshot.take(desk.lake), [shard], desk.chain) == 2
        assert count_waiting(Snapshot.take(desk.lake), [shard], desk.chain[:1]) == 0

    @pytest.mark.parametrize("status", ["empty", "failed"])
    def test_upstream_status_and_reason_travel_with_the_item(self, desk, hand, shard, status):
        desk.outcome(desk.tagger, hand.ids, status=status)

        items = desk.stale([shard], last="ground")

        assert {(item["upstream_status"], item["upstream_reason"]) for item in items} == {(status, "why")}

    def test_upstream_rows_are_those_of_the_visible_outcome(self, desk, hand, shard):
        good = desk.outcome(desk.tagger, hand.ids)
        desk.outcome(desk.tagger, hand.ids, status="failed")  # later, but never hides a good one

        assert [item["units"] for item in desk.stale([shard], last="ground")] == [{"tag": good}] * 3

    @pytest.mark.parametrize(
        ("tries", "retryable", "again"),
        [
            (1, True, True),
            (planning.MAX_TRIES - 1, True, True),
            (planning.MAX_TRIES, True, False),
            (1, False, False),
        ],
    )
    def test_a_failure_is_tried_again_only_while_that_may_help(self, desk, hand, shard, tries, retryable, again):
        for _ in range(tries):
            desk.outcome(desk.tagger, hand.ids, status="failed", retryable=retryable)

        assert desk.ids([shard]) == (set(hand.ids) if again else set())

    def test_a_failure_for_good_of_new_input_beside_an_older_good_outcome_is_not_tried_for_ever(
        self, desk, hand, shard
    ):
        desk.outcome(desk.tagger, hand.ids, value="new")
        desk.outcome(desk.grounder, hand.ids, given=["old"] * 3)
        desk.outcome(desk.grounder, hand.ids, given=["new"] * 3, status="failed")

        assert desk.stale([shard], last="ground") == []

    def test_failures_of_another_annotator_do_not_count(self, desk, hand, shard):
        for _ in range(planning.MAX_TRIES):
            desk.outcome(replace(desk.tagger, annotator_id="other"), hand.ids, status="failed", retryable=True)

        assert desk.ids([shard]) == set(hand.ids)

    def test_an_item_says_how_often_its_input_failed(self, desk, hand, shard):
        desk.outcome(desk.tagger, hand.ids[:1], status="failed", retryable=True)

        assert {item["image_id"]: item["tries"] for item in desk.stale([shard])} == dict.fromkeys(hand.ids, 0) | {
            hand.ids[0]: 1
        }

    def test_a_lake_that_is_looked_at_in_parts_gives_the_same_answers(self, lake, desk, hand, shard, monkeypatch):
        shards = [shard, hand.add(Picture(size=(60, 40), seed=1), *(Picture(seed=n) for n in range(9, 19)))]
        desk.outcome(desk.tagger, hand.ids[:4])

        def answers() -> Any:
            snapshot = Snapshot.take(lake)
            counted = count_stale(snapshot, shards, desk.chain[:1]), count_waiting(snapshot, shards, desk.chain)
            return desk.stale(shards), *counted, planning.survey(snapshot)

        whole = answers()
        monkeypatch.setattr(parting, "FOCUS_SHARDS", 0)
        monkeypatch.setattr(parting, "ROW_BYTES", 64 << 20)  # of 512 MB: three parts

        assert answers() == whole
        assert len(whole[0]) == 10

    def test_failures_of_another_input_do_not_count(self, desk, hand, shard):
        desk.outcome(desk.tagger, hand.ids, value="new")
        desk.outcome(desk.grounder, hand.ids, given=["old"] * 3, status="failed")

        assert desk.ids([shard], last="ground") == set(hand.ids)

    def test_a_picture_in_two_shards_is_worked_on_in_the_one_planned_first(self, desk, hand):
        first = hand.add(Picture(seed=1))
        second = hand.add(Picture(seed=1), Picture(seed=2))

        assert desk.ids([first]) == {hand.ids[0]}
        assert desk.ids([second]) == {hand.ids[2]}

    def test_a_shard_that_was_not_settled_shows_nothing(self, desk, hand):
        assert desk.stale([hand.add(Picture(seed=1), settle=False)]) == []

    def test_a_picture_that_was_taken_down_is_never_taken(self, desk, hand, shard):
        hand.take_down(hand.ids[0])

        assert desk.ids([shard], force=True) == set(hand.ids[1:])
        assert count_images(Snapshot.take(desk.lake), [shard]) == 2

    def test_a_hundred_thousand_images_take_seconds(self, lake, desk, hand, shard):
        ids = [digest(n) for n in range(100_000)]
        row = {"attempt": 1, "tar": "raw/x.tar", "length": 9, "orientation": 1, "format": "png", "phash": "0" * 16}
        row |= {"width": 9, "height": 9, "shard_id": shard, "ingested_at": START, "unit": digest("unit", "hand", 0)}
        lake.append("images", [row | {"image_id": i, "offset": n} for n, i in enumerate(ids)], "many")
        desk.outcome(desk.tagger, ids)
        desk.outcome(desk.grounder, ids[:-1], given=["value"] * (len(ids) - 1))

        start = time.monotonic()
        items = desk.stale([shard], last="ground")

        assert [item["image_id"] for item in items] == ids[-1:]
        assert time.monotonic() - start < 30  # a second on an idle machine


def test_the_chain_is_empty_while_weights_of_an_upstream_are_missing(lake, fakes, monkeypatch):
    monkeypatch.setattr(fakes.FakeTag, "roles", {"tagger": "tagger"})
    network = Network(family="ram", weights="packaged:tiny/tagger@000000000001")
    entry = fakes.entry("tag").model_copy(update={"networks": {"tagger": network}})
    models = ModelStore(lake.store, lake.settings.scratch)

    assert annotator_of(stage_class("tag"), entry, models) is None
    assert (
        annotator_chain(fakes.catalog_of(entry), models, "ground", {"tag": "fake-tag", "ground": "fake-ground"}) == []
    )
