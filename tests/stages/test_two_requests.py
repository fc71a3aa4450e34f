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


class TestADeadOrder:
    def test_is_finished_by_the_next_request_that_needs_its_images(self, desk, many, dies):
        dies("dead", slices=1)

        summary = desk.run(name="next")

        assert desk.outcomes() == dict.fromkeys(many, ("ok", None))
        assert len(desk.raw("outcomes")) == 25
        assert (summary.counts, summary.worked, summary.orders) == ({"ok": 25}, 15, 1)
        assert summary.note == "25 images in orders that other requests left open"

    def test_holds_back_only_the_images_it_lists(self, desk, hand, many, dies, lake):
        dies("dead", slices=0)
        hand.add(*(Picture(size=(24, 16), seed=n, format="PNG") for n in range(24, 27)))

        summary = desk.run(name="next", shards=[])
        further = desk.run(name="next", group=1)

        assert (summary.images, further.images) == (25, 2)
        assert Counter(row["image_id"] for row in desk.raw("outcomes")) == dict.fromkeys(hand.ids, 1)

    def test_is_helped_again_by_a_retry_of_the_request_that_began_to(self, desk, many, dies):
        dies("dead", slices=1)
        dies("next", slices=1)

        assert desk.run(name="next").worked in (5, 10), "a helper takes the slices in any order"
        assert len(desk.raw("outcomes")) == 25

    def test_counts_in_the_verdict_of_the_request_that_finished_it(self, desk, lake, many, dies):
        dies("dead", slices=1)
        desk.run(name="next")

        key = desk.plan("next").key
        assert adopted_units(lake, key) == units(desk)
        assert [(row.status, row.images) for row in outcomes_of_request(lake, key)] == [("ok", 25)]

    def test_is_left_alone_by_a_request_for_other_images(self, desk, hand, many, dies):
        dies("dead", slices=0)
        shard = hand.add(Picture(seed=99))

        assert desk.run(name="next", shards=[shard]).images == 1

    def test_that_was_fenced_is_not_finished_but_listed_afresh(self, desk, lake, many, dies):
        dies("dead", slices=1)
        (dead,) = units(desk)
        fence_unit(lake, dead, "outcomes")

        summary = desk.run(name="next")

        assert (summary.counts, summary.worked) == ({"ok": 25}, 25)
        assert dead not in {row["unit"] for row in desk.raw("outcomes")}

    def test_that_was_fenced_fails_its_own_request_for_good(self, desk, lake, many, dies):
        dies("dead", slices=1)
        fence_unit(lake, units(desk)[0], "outcomes")

        with pytest.raises(DeadOrderError, match="declared dead"):
            desk.run(name="dead")

    def test_that_is_fenced_while_it_is_worked_fails_for_good_at_once(self, desk, lake, many, monkeypatch):
        real = orders.commit_order

        def swept(lake: Any, order: Any, last: str) -> Any:
            fence_unit(lake, order.key, "outcomes")
            return real(lake, order, last)

        monkeypatch.setattr(orders, "commit_order", swept)
        with pytest.raises(DeadOrderError):
            desk.run()

    def test_of_another_tagger_is_grounded_by_the_tags_it_was_made_from(self, desk, many, dies, fakes):
        desk.run()
        dies("dead", slices=1, stage="ground")
        desk.misbehave(memory=999)  # an option changed, so another tagger; it says the same
        desk.run(name="next")

        assert desk.run("ground", name="next").counts == {"ok": 25}
        assert len({row["unit"] for item in fakes.FakeGround.seen for row in item.upstream["tags"]}) == 1
        assert len(desk.raw("tags")) == 50


class TestARunningOrder:
    def test_is_helped_and_each_slice_counts_once(self, desk, many, monkeypatch):
        real, inside = orders.finish_slice, []

        def other_request_helps(*given: Any) -> Any:
            if not inside:
                inside.append(True)
                inside.append(desk.run(name="second"))
            return real(*given)

        monkeypatch.setattr(orders, "finish_slice", other_request_helps)
        first = desk.run(name="first")

        assert first.counts == inside[1].counts == {"ok": 25}
        assert Counter(row["image_id"] for row in desk.raw("outcomes")) == dict.fromkeys(many, 1)
        assert len(units(desk)) == 1


class TestPackedOrders:
    @pytest.fixture
    def failing(self, desk, hand, monkeypatch):
        """Four shards of three images; in all but the second, one image failed and may be tried again."""
        monkeypatch.setattr("etl.stages.planning.Survey.group_size", lambda *_: 4)
        shards = [hand.add(*(Picture(seed=3 * n + m) for m in range(3))) for n in range(4)]
        desk.misbehave(raises=[hand.ids[0], hand.ids[6], hand.ids[9]])
        desk.run()
        return shards

    def test_images_to_try_again_of_many_shards_are_one_order(self, desk, hand, failing, fakes):
        (group,) = desk.plan("again", stages=["tag"]).groups

        assert group.shards == (failing[0], failing[2], failing[3])
        assert group.orders == (group.shards,)
        fakes.FakeTag.seen.clear()
        summary = desk.run(name="again", stages=["tag"])
        assert (summary.orders, summary.counts) == (1, {"failed/error": 3})
        assert {image for batch in fakes.FakeTag.seen for image in batch} == {hand.ids[n] for n in (0, 6, 9)}

    def test_a_shard_that_is_stale_as_a_whole_is_an_order_of_its_own(self, desk, hand, failing):
        new = hand.add(Picture(seed=77))

        (group,) = desk.plan("again", stages=["tag"]).groups

        assert group.orders == ((failing[0], failing[2], failing[3]), (new,))

    def test_an_order_takes_so_many_images_and_the_next_one_the_rest(self, desk, hand, failing, monkeypatch):
        monkeypatch.setattr(opening, "ORDER_IMAGES", 2)
        desk.plan("again", stages=["tag"])

        summary = desk.run(name="again", stages=["tag"])
        resumed = desk.run(name="again", stages=["tag"])

        assert (summary.orders, summary.images, resumed.counts) == (2, 3, summary.counts)
        assert sorted(row["n_items"] for row in desk.raw("orders"))[:2] == [1, 2]


class TestTooManyFailures:
    @pytest.fixture
    def hundred(self, hand):
        """As many images as are judged at all, in ten slices."""
        assert MIN_JUDGED == 100
        hand.add(*(Picture(size=(2, 2), seed=n, format="PNG") for n in range(MIN_JUDGED)))
        return hand.ids

    def test_stop_the_order_before_the_slice_that_settles_it_is_named(self, desk, lake, hundred):
        desk.misbehave(fails=hundred)

        with pytest.raises(
            FailureRateError, match=r"60 of 100 images fail, the limit is 50%: 60 failed/not_finite"
        ) as e:
            desk.run()
        (unit,) = units(desk)
        assert e.value.exit_code == 65
        assert "such as: NaN" in str(e.value)
        named = [found.key for found in lake.store.list(f"units/{unit}/0")]
        assert len(named) == 5, "half of the images may fail: six slices are too many"
        assert desk.raw("outcomes") == []

    def test_say_the_same_again_on_a_retry_and_a_new_request_lists_the_images_afresh(self, desk, hundred):
        desk.misbehave(fails=hundred)
        for _ in range(2):
            with pytest.raises(FailureRateError, match="60 of 100 images fail"):
                desk.run()
        desk.misbehave(raises=["nobody"])

        assert desk.run(name="mended").counts == {"ok": 100}

    def test_are_as_many_as_the_source_allows(self, desk, lake, hundred, monkeypatch):
        desk.misbehave(fails=hundred)
        lenient = Source(name="hand", uri="x.csv", max_failed_order_share=1.0)
        catalog = replace(desk.catalog, sources={"hand": lenient})
        monkeypatch.setattr(type(desk), "catalog", property(lambda _: catalog))

        assert desk.run().counts == {"failed/not_finite": 100}

    def test_among_few_images_stop_nothing(self, desk, many):
        desk.misbehave(fails=many)

        assert desk.run().counts == {"failed/not_finite": 25}

    def test_of_images_that_failed_before_stop_nothing(self, desk, hundred):
        desk.misbehave(breaks_constraint=hundred)  # a failure that may be tried again
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("etl.stages.runner.DEFAULT_LIMIT", 1.0)
            desk.run()

        assert desk.run(name="again").counts == {"failed/constraint": 100}

    def test_that_upstream_made_stop_nothing(self, desk, hundred):
        desk.misbehave(fails=hundred)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("etl.stages.runner.DEFAULT_LIMIT", 1.0)
            desk.run()

        assert desk.run("ground").counts == {"failed/upstream_failed": 100}

    def test_leave_the_images_pending(self, desk, lake, hundred):
        desk.misbehave(fails=hundred)
        with pytest.raises(FailureRateError):
            desk.run()

        (source,) = read_ledger(Snapshot.take(lake))
        tag = source.stages[0]
        assert (tag.images, tag.pending) == (100, 100)


def test_the_order_of_one_shard_has_the_key_that_earlier_versions_gave_it(desk, hand, many):
    """So an order that was begun before an upgrade is finished after it."""
    desk.run()

    (row,) = desk.raw("orders")
    annotator = desk.raw("annotators")[0]["annotator_id"]
    assert row["unit"] == digest("tag", annotator, "r", row["shards"][0])
