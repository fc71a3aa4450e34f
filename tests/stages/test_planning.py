"""What a request contains: how the shards of stale images are grouped, and by which models."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from handmade import Picture
from outcome_desk import START, Desk

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake.ids import digest
from etl.settings import Network, Source
from etl.stages import planning
from etl.stages.planning import check_group, plan_groups, plan_request, read_request, request_key


@pytest.fixture
def desk(lake, fakes):
    return Desk(lake, fakes)


@pytest.fixture
def shard(hand):
    return hand.add(Picture(size=(60, 40), seed=1), Picture(size=(40, 40), seed=2), Picture(size=(40, 40), seed=3))


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
        monkeypatch.setattr(fakes.FakeTag, "roles", {"tagger": "tagger"})
        network = Network(family="ram", weights="packaged:tiny/tagger@000000000001")
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
