"""What a request contains: which images lack a fresh outcome, and how their shards are grouped."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from handmade import Picture

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake import Lake, Snapshot, parting
from etl.lake.ids import digest
from etl.models.store import ModelStore
from etl.settings import Network, Source
from etl.stages import planning
from etl.stages.annotators import Annotator, annotator_of, register
from etl.stages.planning import check_group, plan_groups, plan_request, read_request, request_key
from etl.stages.registry import stage_class
from etl.stages.staleness import annotator_chain, count_images, count_stale, count_waiting, order_items

START = datetime(2026, 2, 1, tzinfo=UTC)


class Desk:
    """Outcomes written by hand, for the annotators of the fake stages."""

    def __init__(self, lake: Lake, fakes: Any) -> None:
        self.lake, self.fakes, self.number = lake, fakes, 0
        self.catalog = fakes.catalog_of()
        models = ModelStore(lake.store, lake.settings.scratch)
        self.chain = annotator_chain(self.catalog, models, "ground", {"tag": "fake-tag", "ground": "fake-ground"})
        self.tagger, self.grounder = self.chain

    def outcome(
        self,
        annotator: Annotator,
        images: Sequence[str],
        given: Sequence[str] | None = None,
        value: str = "value",
        status: str = "ok",
        retryable: bool = False,
    ) -> str:
        """One unit; the input of a tagger is the image itself. Later units were requested later."""
        self.number += 1
        unit = digest("unit", self.number)
        rows = [
            {"image_id": image, "shard_id": "any", "stage": annotator.entry.stage, "unit": unit}
            | {"annotator_id": annotator.annotator_id, "requested_at": START + timedelta(hours=self.number)}
            | {"status": status, "reason": None if status == "ok" else "why", "retryable": retryable}
            | {"input_digest": source, "value_digest": value, "seconds": 0.0}
            for image, source in zip(images, given or images, strict=True)
        ]
        self.lake.append("outcomes", rows, unit)
        return unit

    def stale(self, shards: Sequence[str], *, last: str = "tag", force: bool = False) -> list[dict[str, Any]]:
        chain = self.chain[:1] if last == "tag" else self.chain
        return order_items(Snapshot.take(self.lake), shards, chain, force=force)

    def ids(self, shards: Sequence[str], **options: Any) -> set[str]:
        return {row["image_id"] for row in self.stale(shards, **options)}

    def promote_all(self, source: str) -> None:
        register(self.lake, self.tagger, source)
        register(self.lake, self.grounder, source)


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


class TestPlanRequest:
    def test_an_empty_lake_has_no_groups(self, lake, desk):
        assert plan_request(lake, desk.catalog, "r", stages=["tag"]).groups == ()

    def test_shards_without_outcomes_become_groups_of_one_while_nothing_was_measured(self, lake, desk, hand):
        shards = [hand.add(Picture(seed=n)) for n in range(3)]

        request = plan_request(lake, desk.catalog, "r", stages=["ground", "tag"])

        assert request.stages == ("tag", "ground")
        assert [group.shards for group in request.groups] == [(shard,) for shard in shards]
        assert request.groups[0].models == {"tag": "fake-tag", "ground": "fake-ground"}

    def test_who_asks_first_fixes_the_request(self, lake, desk, hand):
        hand.add(Picture(seed=1))
        first = plan_request(lake, desk.catalog, "r", stages=["tag"])
        hand.add(Picture(seed=2))

        assert plan_request(lake, desk.catalog, "r", stages=["tag", "ground"]) == first
        assert read_request(lake, request_key("r")) == first

    def test_fresh_shards_are_left_out(self, lake, desk, hand):
        fresh, stale = hand.add(Picture(seed=1)), hand.add(Picture(seed=2))
        desk.promote_all("hand")
        desk.outcome(desk.tagger, hand.ids[:1])

        assert [g.shards for g in plan_groups(lake, desk.catalog, stages=["tag"])] == [(stale,)]
        assert [g.shards for g in plan_groups(lake, desk.catalog, stages=["tag"], force=True)] == [(fresh,), (stale,)]

    def test_a_shard_is_stale_when_any_of_the_stages_is(self, lake, desk, hand):
        shard = hand.add(Picture(seed=1))
        desk.promote_all("hand")
        desk.outcome(desk.tagger, hand.ids)

        assert plan_groups(lake, desk.catalog, stages=["tag"]) == []
        assert [g.shards for g in plan_groups(lake, desk.catalog, stages=["tag", "ground"])] == [(shard,)]

    def test_a_source_without_current_annotator_is_planned_though_its_images_are_fresh(self, lake, desk, hand):
        shard = hand.add(Picture(seed=1))
        desk.outcome(desk.tagger, hand.ids)

        assert [g.shards for g in plan_groups(lake, desk.catalog, stages=["tag"])] == [(shard,)]

    def test_missing_weights_make_everything_stale(self, lake, desk, hand, fakes, monkeypatch):
        monkeypatch.setattr(fakes.FakeTag, "roles", ("tagger",))
        network = Network(family="ram", weights="untrained:tiny/1")
        entry = fakes.entry("tag").model_copy(update={"networks": {"tagger": network}})
        shard = hand.add(Picture(seed=1))

        assert [g.shards for g in plan_groups(lake, fakes.catalog_of(entry), stages=["tag"])] == [(shard,)]

    def test_measured_throughput_makes_groups_of_twenty_minutes(self, lake, desk, hand, monkeypatch):
        shards = [hand.add(Picture(seed=n), Picture(seed=n + 50)) for n in range(5)]
        run = {"request": "r", "unit": "u", "annotator_id": "a", "host": "h", "device": "cpu", "started_at": START}
        run |= {"network_seconds": 0.0, "decode_wait_seconds": 0.0, "ok": 0, "empty": 0, "failed": 0}
        fast, slow = (
            {"run_id": s, "stage": s, "images": 20, "seconds": t} for s, t in (("tag", 2.0), ("ground", 10.0))
        )
        lake.append("runs", [run | fast, run | slow], "runs")
        monkeypatch.setattr(planning, "GROUP_SECONDS", 3)  # two images a second: six images, three shards

        groups = plan_groups(lake, desk.catalog, stages=["tag"])
        single = plan_groups(lake, desk.catalog, stages=["tag"], shards=[shards[1][:12], shards[0]])

        assert [g.shards for g in groups] == [tuple(shards[:3]), tuple(shards[3:])]
        assert [g.shards for g in single] == [(shards[0],), (shards[1],)]

    def test_too_many_groups_become_longer_and_no_shard_is_left_out(self, lake, desk, hand, monkeypatch):
        shards = [hand.add(Picture(seed=n)) for n in range(5)]
        monkeypatch.setattr(planning, "MAX_GROUPS", 2)

        groups = plan_groups(lake, desk.catalog, stages=["tag"])

        assert [g.shards for g in groups] == [tuple(shards[:4]), tuple(shards[4:])]

    def test_ten_thousand_shards_are_found_by_their_names_at_once(self):
        shards = [digest(n) for n in range(10_000)]
        found = planning.Survey([("hand", s, 1) for s in shards], frozenset({"hand"}), frozenset(), {})

        start = time.monotonic()
        members = planning.select_shards(found, [], [shard[:20] for shard in shards])

        assert members == {"hand": shards}
        assert time.monotonic() - start < 5  # a hundred milliseconds on an idle machine

    def test_a_request_of_an_earlier_version_has_an_order_per_shard(self, lake, desk, hand):
        shards = [hand.add(Picture(seed=n)) for n in range(2)]
        content = {"key": "k", "name": "r", "requested_at": "2026-02-01T00:00:00+00:00", "stages": ["tag"]}
        content |= {"force": False, "groups": [{"source": "hand", "shards": shards, "models": {"tag": "fake-tag"}}]}
        lake.store.put("units/requests/k.json", json.dumps(content).encode())

        assert read_request(lake, "k").groups[0].members == ((shards[0],), (shards[1],))

    def test_only_the_sources_asked_for_are_planned(self, lake, desk, hand):
        hand.add(Picture(seed=1), source="a")
        shard = hand.add(Picture(seed=2), source="b")

        assert [(g.source, g.shards) for g in plan_groups(lake, desk.catalog, sources=["b"], stages=["tag"])] == [
            ("b", (shard,))
        ]

    def test_a_model_is_the_named_one_else_the_sources_else_the_default(self, lake, hand, fakes):
        hand.add(Picture(seed=1))
        of_source = Source(name="hand", uri="x.csv", models={"tag": "second", "ground": "third"})
        catalog = fakes.catalog_of(
            fakes.entry("tag"), fakes.entry("tag", "second"), fakes.entry("tag", "named"), fakes.entry("ground"),
            fakes.entry("ground", "third"),
        )  # fmt: skip
        catalog = replace(catalog, sources={"hand": of_source})

        (group,) = plan_groups(lake, catalog, stages=["ground"], models={"tag": "named"})
        (plain,) = plan_groups(lake, catalog, stages=["tag"])

        assert group.models == {"tag": "named", "ground": "third"}
        assert plain.models == {"tag": "second"}

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"sources": ["nowhere"]}, "source"),
            ({"shards": ["zzz"]}, "shard"),
            ({"shards": [""]}, "shard \\(ambiguous\\)"),
            ({"stages": ["paint"]}, "stage"),
            ({"models": {"paint": "x"}}, "stage"),
            ({"models": {"tag": "nobody"}}, "tag model"),
        ],
    )
    def test_an_unknown_name_is_refused_with_the_known_ones(self, lake, desk, hand, options, kind):
        hand.add(Picture(seed=1))
        hand.add(Picture(seed=2))

        with pytest.raises(UnknownNameError, match=f"unknown {kind} .*known: .+"):
            plan_request(lake, desk.catalog, "r", **{"stages": ["tag"], **options})
        assert lake.store.stat(f"units/requests/{request_key('r')}.json") is None

    def test_a_shard_of_another_source_than_asked_for_is_refused(self, lake, desk, hand):
        hand.add(Picture(seed=1), source="a")
        shard = hand.add(Picture(seed=2), source="b")

        with pytest.raises(UnknownNameError, match="unknown shard"):
            plan_groups(lake, desk.catalog, sources=["a"], shards=[shard], stages=["tag"])

    def test_a_stage_without_default_model_is_a_configuration_error(self, lake, hand, fakes):
        hand.add(Picture(seed=1))

        with pytest.raises(ConfigurationError, match="0 default models"):
            plan_groups(lake, fakes.catalog_of(fakes.entry("tag", "other")), stages=["tag"])

    def test_a_group_that_is_not_there_is_a_data_error(self, lake, desk):
        with pytest.raises(DataError, match="has 0 groups, there is no number 0"):
            check_group(plan_request(lake, desk.catalog, "r", stages=["tag"]), 0)


def test_the_chain_is_empty_while_weights_of_an_upstream_are_missing(lake, fakes, monkeypatch):
    monkeypatch.setattr(fakes.FakeTag, "roles", ("tagger",))
    network = Network(family="ram", weights="untrained:tiny/1")
    entry = fakes.entry("tag").model_copy(update={"networks": {"tagger": network}})
    models = ModelStore(lake.store, lake.settings.scratch)

    assert annotator_of(stage_class("tag"), entry, models) is None
    assert (
        annotator_chain(fakes.catalog_of(entry), models, "ground", {"tag": "fake-tag", "ground": "fake-ground"}) == []
    )
