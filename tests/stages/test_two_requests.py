"""Two requests over the same images: nothing is worked twice, nothing waits for a dead order, and counts add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from handmade import Picture

from etl.errors import RetryableError
from etl.lake import Snapshot
from etl.lake.ids import digest
from etl.lake.ledger import read_ledger
from etl.lake.units import fence_unit
from etl.orchestration.verdict import outcomes_of_request
from etl.settings import Source
from etl.stages import opening, orders
from etl.stages.failures import FailureRateError
from etl.stages.opening import adopted_units
from etl.stages.planning import request_key
from etl.stages.runner import run_stage
from etl.stages.stopping import MIN_JUDGED, DeadOrderError


@pytest.fixture
def dies(desk, monkeypatch):
    """Runs a request that dies after some slices."""

    def run(name: str, slices: int, **options: Any) -> None:
        real, done = orders.finish_slice, []

        def finish(*given: Any) -> Any:
            if len(done) == slices:
                raise RetryableError("the node was lost")
            done.append(given)
            return real(*given)

        with monkeypatch.context() as patch:
            patch.setattr(orders, "finish_slice", finish)
            with pytest.raises(RetryableError):
                desk.run(name=name, **options)

    return run


def units(desk: Any) -> list[str]:
    return [row["unit"] for row in desk.raw("orders")]


TAG = {"stages": ["tag"]}


class TestADeadOrder:
    def test_is_finished_by_the_next_request_that_needs_its_images_and_counts_there(self, desk, lake, many, dies):
        dies("dead", slices=1, **TAG)

        summary = desk.run(name="next", **TAG)

        assert Counter(row["image_id"] for row in desk.raw("outcomes")) == dict.fromkeys(many, 1)
        assert (summary.counts, summary.worked, summary.orders) == ({"ok": 25}, 15, 1)
        assert summary.note == "25 images in orders that other requests left open"
        key = request_key("next")
        assert adopted_units(lake, key) == units(desk)
        assert [(row.status, row.images) for row in outcomes_of_request(lake, key)] == [("ok", 25)]

    def test_holds_back_only_the_images_it_lists(self, desk, hand, many, dies):
        dies("dead", slices=0, **TAG)
        shard = hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(24, 27)))

        assert desk.run(name="others", shards=[shard], **TAG).images == 2, "one of the three is in the first shard too"
        assert desk.run(name="next", **TAG).images == 25
        assert Counter(row["image_id"] for row in desk.raw("outcomes")) == dict.fromkeys(hand.ids, 1)

    def test_is_helped_again_by_a_retry_of_the_request_that_began_to(self, desk, hand, many, dies):
        dies("dead", slices=1, **TAG)
        dies("next", slices=1, **TAG)

        assert desk.run(name="next", **TAG).worked in (5, 10), "a helper takes the slices in any order"
        assert len(desk.raw("outcomes")) == 25

    def test_that_was_fenced_is_listed_afresh_and_fails_its_own_request_for_good(self, desk, lake, many, dies):
        dies("dead", slices=1, **TAG)
        (dead,) = units(desk)
        fence_unit(lake, dead, "outcomes")

        assert desk.run(name="next", **TAG).worked == 25
        assert dead not in {row["unit"] for row in desk.raw("outcomes")}
        with pytest.raises(DeadOrderError, match="declared dead"):
            desk.run(name="dead", **TAG)

    def test_that_is_fenced_while_it_is_worked_fails_for_good_at_once(self, desk, lake, many, monkeypatch):
        real = orders.commit_order

        def swept(lake: Any, order: Any, last: str) -> Any:
            fence_unit(lake, order.key, "outcomes")
            return real(lake, order, last)

        monkeypatch.setattr(orders, "commit_order", swept)
        with pytest.raises(DeadOrderError):
            desk.run(**TAG)

    def test_of_another_tagger_is_grounded_by_the_tags_it_was_made_from(self, desk, hand, dies, fakes):
        hand.add(Picture(seed=1), Picture(seed=2))
        desk.run()
        dies("dead", slices=0, stage="ground")
        desk.misbehave(memory=999)  # an option changed, so another tagger; it says the same
        desk.run(name="next")

        assert desk.run("ground", name="next").counts == {"ok": 2}
        assert len({row["unit"] for item in fakes.FakeGround.seen for row in item.upstream["tags"]}) == 1
        assert len(desk.raw("tags")) == 4


class TestARunningOrder:
    def test_is_helped_and_each_slice_counts_once(self, desk, many, monkeypatch):
        real, inside = orders.finish_slice, []

        def other_request_helps(*given: Any) -> Any:
            if not inside:
                inside.append(True)
                inside.append(desk.run(name="second", **TAG))
            return real(*given)

        monkeypatch.setattr(orders, "finish_slice", other_request_helps)
        first = desk.run(name="first", **TAG)

        assert first.counts == inside[1].counts == {"ok": 25}
        assert Counter(row["image_id"] for row in desk.raw("outcomes")) == dict.fromkeys(many, 1)
        assert len(units(desk)) == 1


class TestPackedOrders:
    @pytest.fixture
    def failing(self, desk, hand, monkeypatch):
        """Three shards of two images; in all but the second, one image failed and may be tried again."""
        monkeypatch.setattr("etl.stages.planning.Survey.group_size", lambda *_: 4)
        shards = [hand.add(*(Picture(seed=2 * n + m) for m in range(2))) for n in range(3)]
        desk.misbehave(raises=[hand.ids[0], hand.ids[4]])
        desk.run(**TAG)
        return shards

    def test_images_to_try_again_of_many_shards_are_one_order_and_a_new_shard_is_its_own(
        self, desk, hand, failing, fakes
    ):
        new = hand.add(Picture(seed=77))
        (group,) = desk.plan("again", **TAG).groups

        assert group.shards == (failing[0], failing[2], new)
        assert group.orders == ((failing[0], failing[2]), (new,))
        fakes.FakeTag.seen.clear()
        summary = desk.run(name="again", **TAG)
        assert (summary.orders, summary.counts) == (2, {"failed/error": 2, "ok": 1})
        assert {i for batch in fakes.FakeTag.seen for i in batch} == {hand.ids[0], hand.ids[4], hand.ids[6]}

    def test_an_order_takes_so_many_images_and_the_next_one_the_rest(self, desk, hand, failing, monkeypatch):
        monkeypatch.setattr(opening, "ORDER_IMAGES", 1)

        summary = desk.run(name="again", **TAG)
        resumed = desk.run(name="again", **TAG)

        assert (summary.orders, summary.images, resumed.counts) == (2, 2, summary.counts)
        assert sorted(row["n_items"] for row in desk.raw("orders")) == [1, 1, 2, 2, 2]


class TestTooManyFailures:
    @pytest.fixture
    def hundred(self, hand, lake, settings):
        """As many images as are judged at all, in five slices."""
        lake.settings = settings.model_copy(update={"slice_size": MIN_JUDGED // 5})
        hand.add(*(Picture(size=(2, 2), seed=n, format="PNG") for n in range(MIN_JUDGED)))
        return hand.ids

    def test_stop_the_order_before_the_slice_that_settles_it_is_named(self, desk, lake, hundred):
        desk.misbehave(fails=hundred)

        with pytest.raises(
            FailureRateError, match=r"60 of 100 images fail, the limit is 50%: 60 failed/not_fin"
        ) as stop:
            desk.run(**TAG)

        (unit,) = units(desk)
        assert (stop.value.exit_code, "such as: NaN" in str(stop.value)) == (65, True)
        named = [found.key for found in lake.store.list(f"units/{unit}/0")]
        assert len(named) == 2, "half of the images may fail: the third slice is too much"
        (source,) = read_ledger(Snapshot.take(lake))
        assert (source.stages[0].images, source.stages[0].pending) == (100, 100)

    def test_say_the_same_again_on_a_retry_and_a_new_request_lists_the_images_afresh(self, desk, hundred):
        desk.misbehave(fails=hundred)
        for _ in range(2):
            with pytest.raises(FailureRateError, match="60 of 100 images fail"):
                desk.run(**TAG)
        lenient = replace(desk.catalog, sources={"hand": Source(name="hand", uri="x", max_failed_order_share=1.0)})

        summary = run_stage(desk.lake, lenient, "tag", desk.plan("lenient", **TAG).key, 0, device="cpu")

        assert summary.counts == {"failed/not_finite": 100}


def test_the_order_of_one_shard_has_the_key_that_earlier_versions_gave_it(desk, hand):
    """So an order that was begun before an upgrade is finished after it."""
    hand.add(Picture(seed=1))
    desk.run(**TAG)

    (row,) = desk.raw("orders")
    annotator = desk.raw("annotators")[0]["annotator_id"]
    assert row["unit"] == digest("tag", annotator, "r", row["shards"][0])
