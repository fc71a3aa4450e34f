"""One stage over one group: every image ends once, however often it is run.

The stages are fakes (``tests/fake_stages.py``); orders, slices, tars, commits and views are the real ones.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from handmade import Picture

from etl.errors import ConfigurationError, DataError, RetryableError, StoppedError
from etl.lake import Lake, Snapshot
from etl.lake import orders as lake_orders
from etl.settings import Network
from etl.stages import orders, upstream
from etl.stages.progress import Progress
from etl.stages.runner import run_stage
from etl.storage import NotFoundError


class TestWhatComesOut:
    def test_every_image_has_one_outcome_and_rows_that_show(self, desk, many):
        summary = desk.run()

        assert desk.outcomes() == dict.fromkeys(many, ("ok", None))
        assert (summary.images, summary.ok, summary.worked, summary.orders) == (25, 25, 25, 1)
        shown = Snapshot.take(desk.lake).sql("select image_id, tags[1].tag as tag from tags").to_pylist()
        assert sorted((row["image_id"], row["tag"]) for row in shown) == sorted((i, "thing") for i in many)

    def test_outcomes_carry_the_digests_that_decide_what_is_stale(self, desk, hand):
        hand.add(Picture(seed=1), Picture(seed=2), Picture(seed=3))
        ok, empty, failed = hand.ids
        desk.misbehave(empty=[empty], fails=[failed])
        summary = desk.run()
        request = desk.plan()

        rows = {row["image_id"]: row for row in desk.raw("outcomes")}
        from etl.lake.ids import digest

        assert rows[ok]["value_digest"] == digest("tag", ["thing"])
        assert rows[empty]["value_digest"] == digest("empty", "no_tags")
        assert rows[failed]["value_digest"] == digest("failed", "not_finite")
        assert all(row["input_digest"] == image for image, row in rows.items())
        assert {row["requested_at"].isoformat() for row in rows.values()} == {request.requested_at}
        assert summary.counts == {"ok": 1, "empty/no_tags": 1, "failed/not_finite": 1}
        assert (summary.ok, summary.empty, summary.failed) == (1, 1, 1)

    def test_a_failed_image_leaves_no_rows(self, desk, hand):
        hand.add(Picture(seed=1), Picture(seed=2))
        desk.misbehave(fails=hand.ids[:1])
        desk.run()

        assert [row["image_id"] for row in desk.raw("tags")] == hand.ids[1:]

    def test_batches_hold_one_shape_and_stay_inside_a_slice(self, desk, hand, fakes):
        hand.add(*(Picture(size=(20 + n % 2, 10), seed=n, format="PNG") for n in range(14)))
        desk.run()

        sizes = {row["image_id"]: row["width"] for row in desk.raw("images")}
        assert [{sizes[image] for image in batch} for batch in fakes.FakeTag.seen] == [{20}, {20}, {21}, {21}]
        assert [len(batch) for batch in fakes.FakeTag.seen] == [4, 3, 3, 4]

    def test_in_reduced_precision_the_last_batch_is_padded_to_the_fixed_one(self, desk, hand, fakes):
        hand.add(*(Picture(seed=n) for n in range(5)))
        desk.entries["tag"] = fakes.entry("tag", batch_size=4).model_copy(update={"dtype": "bfloat16"})
        summary = desk.run()

        assert [len(batch) for batch in fakes.FakeTag.seen] == [4, 4]
        assert summary.counts == {"ok": 5}

    def test_an_orientation_flag_is_applied(self, desk, hand, fakes):
        hand.add(Picture(size=(30, 20), orientation=6))

        assert desk.run().counts == {"ok": 1}

    def test_a_try_leaves_one_row_in_runs(self, desk, many):
        desk.run()
        desk.run()

        (row,) = desk.raw("runs")
        assert (row["images"], row["ok"], row["empty"], row["failed"]) == (25, 25, 0, 0)
        assert (row["stage"], row["request"], row["device"]) == ("tag", "r", "cpu")
        assert 0 <= row["network_seconds"] <= row["seconds"]

    def test_progress_counts_up_to_the_images(self, desk, many):
        seen: list[Progress] = []
        desk.run(progress=seen.append)

        assert [step.done for step in seen] == sorted(step.done for step in seen)
        assert [(s.slice, s.slices, s.done, s.total, s.counts) for s in seen if s.counts] == [
            (0, 3, 10, 25, {"ok": 10}),
            (1, 3, 20, 25, {"ok": 10}),
            (2, 3, 25, 25, {"ok": 5}),
        ]


class TestNothingToDo:
    def test_a_second_request_finds_everything_fresh_and_loads_nothing(self, desk, many, fakes):
        desk.run()
        fakes.FakeTag.loads.clear()

        summary = run_stage(desk.lake, desk.catalog, "tag", desk.plan("r2", stages=["ground"]).key, 0, device="cpu")

        assert (summary.images, summary.orders, fakes.FakeTag.loads) == (0, 0, [])

    def test_an_order_without_items_is_not_kept(self, desk, many):
        desk.run()
        before = [found.key for found in desk.lake.store.list("units/")]
        desk.run(name="r2", stages=["ground"])

        new = {found.key for found in desk.lake.store.list("units/")} - set(before)
        assert [key for key in new if "requests/" not in key] == []

    def test_upstream_weights_that_are_missing_mean_that_upstream_has_not_run(self, desk, many, fakes, monkeypatch):
        monkeypatch.setattr(fakes.FakeTag, "roles", {"tagger": "tagger"})
        network = Network(family="ram", weights="packaged:tiny/tagger@000000000001")
        desk.entries["tag"] = fakes.entry("tag").model_copy(update={"networks": {"tagger": network}})

        summary = desk.run("ground")

        assert (summary.images, summary.waiting) == (0, 25)
        assert "upstream has not run" in summary.note
        assert desk.raw("annotators") == []

    def test_images_whose_upstream_has_no_outcome_are_counted_as_waiting(self, desk, many):
        summary = desk.run("ground")

        assert (summary.images, summary.waiting) == (0, 25)
        assert summary.note == "25 images wait for stage tag"


class TestDownstream:
    def test_rows_of_the_upstream_reach_the_stage(self, desk, many, fakes):
        desk.misbehave(word="dog")
        desk.run()
        summary = desk.run("ground")

        assert summary.counts == {"ok": 25}
        assert {row["label"] for row in desk.raw("instances")} == {"dog"}
        assert all(item.picture is None for item in fakes.FakeGround.seen)

    def test_empty_and_failed_upstreams_become_outcomes_without_the_network(self, desk, hand, fakes):
        hand.add(*(Picture(seed=n) for n in range(3)))
        desk.misbehave(empty=hand.ids[:1], fails=hand.ids[1:2])
        desk.run()
        summary = desk.run("ground")

        assert summary.counts == {"empty/no_tags": 1, "failed/upstream_failed": 1, "ok": 1}
        assert [item.image_id for item in fakes.FakeGround.seen] == hand.ids[2:]
        rows = {row["image_id"]: row for row in desk.raw("outcomes") if row["stage"] == "ground"}
        assert rows[hand.ids[1]]["error"] == "upstream: not_finite"
        assert not rows[hand.ids[1]]["retryable"]

    def test_the_same_tags_from_a_new_tagger_leave_nothing_to_ground(self, desk, many, fakes):
        desk.run()
        desk.run("ground")
        fakes.FakeGround.seen.clear()
        desk.misbehave(batch_size=3, memory=999)  # an option changed, so another annotator; it says the same

        again, downstream = desk.run(name="r2"), desk.run("ground", name="r2")

        assert (again.images, downstream.images, fakes.FakeGround.seen) == (25, 0, [])

    def test_other_tags_from_a_new_tagger_are_grounded_for_those_images_only(self, desk, many, fakes):
        desk.run()
        desk.run("ground")
        desk.misbehave(empty=many[:2])  # another tagger, which sees nothing in two pictures
        desk.run(name="r2")

        assert desk.run("ground", name="r2").counts == {"empty/no_tags": 2}
        rows = [row for row in desk.raw("outcomes") if row["stage"] == "ground"]
        assert Counter(row["image_id"] for row in rows) == dict.fromkeys(many, 1) | dict.fromkeys(many[:2], 2)

    def test_rows_are_those_the_order_was_made_from_though_upstream_ran_again_meanwhile(self, desk, many, fakes):
        desk.run()
        with_old_tags = desk.plan("old")
        desk.misbehave("ground", raises=["nobody"])  # only to have the order opened before the re-run
        original = orders.read_upstream

        def rerun_first(*arguments: Any) -> Any:
            orders.read_upstream = original
            desk.run(name="forced", stages=["tag"], force=True)
            return original(*arguments)

        orders.read_upstream = rerun_first
        try:
            run_stage(desk.lake, desk.catalog, "ground", with_old_tags.key, 0, device="cpu")
        finally:
            orders.read_upstream = original

        units = {row["unit"] for item in fakes.FakeGround.seen for row in item.upstream["tags"]}
        assert len(units) == 1
        assert len(desk.raw("tags")) == 50

    def test_a_picture_taken_down_after_the_order_was_made_is_not_worked_on(self, desk, many, hand, fakes, monkeypatch):
        real = orders.read_upstream

        def take_down_first(*arguments: Any) -> upstream.Upstream:
            hand.take_down(many[0])
            return real(*arguments)

        monkeypatch.setattr(orders, "read_upstream", take_down_first)
        summary = desk.run()

        assert summary.counts == {"failed/taken_down": 1, "ok": 24}
        assert many[0] not in {image for batch in fakes.FakeTag.seen for image in batch}

    def test_bytes_that_a_takedown_zeroed_since_the_slice_began_are_no_damage(
        self, desk, many, hand, lake, monkeypatch
    ):
        real = orders.read_upstream
        row = next(row for row in desk.raw("images") if row["image_id"] == many[0])

        def take_down_after(*arguments: Any) -> upstream.Upstream:
            seen = real(*arguments)
            hand.take_down(many[0])
            tar = bytearray(lake.store.read(row["tar"]))
            tar[row["offset"] : row["offset"] + row["length"]] = bytes(row["length"])
            lake.store.put(row["tar"], bytes(tar))
            return seen

        monkeypatch.setattr(orders, "read_upstream", take_down_after)

        assert desk.run().counts == {"failed/taken_down": 1, "ok": 24}


class TestManyOrders:
    @pytest.fixture
    def three(self, desk, hand, lake, monkeypatch):
        """A request with one group of three shards."""
        monkeypatch.setattr("etl.stages.planning.Survey.group_size", lambda *_: 3)
        shards = [hand.add(Picture(seed=2 * n), Picture(seed=2 * n + 1)) for n in range(3)]
        assert [group.shards for group in desk.plan().groups] == [tuple(shards)]
        return shards

    def test_a_group_is_one_order_per_shard_and_loads_the_network_once(self, desk, three, fakes):
        summary = desk.run()

        assert (summary.orders, summary.counts) == (3, {"ok": 6})
        assert fakes.FakeTag.loads == ["cpu"]
        assert len({row["unit"] for row in desk.raw("outcomes")}) == 3

    def test_a_bad_order_stops_no_other_and_is_named(self, desk, three, lake):
        tar = next(row["tar"] for row in desk.raw("images") if row["shard_id"] == three[1])
        lake.store.delete(tar)

        with pytest.raises(NotFoundError, match=rf"1 of 3 orders failed.*shard {three[1][:12]}"):
            desk.run()
        assert {row["shard_id"] for row in desk.raw("outcomes")} == {three[0], three[2]}

    def test_a_retryable_failure_decides_how_the_task_ends(self, desk, three, lake, monkeypatch):
        tar = next(row["tar"] for row in desk.raw("images") if row["shard_id"] == three[0])
        lake.store.delete(tar)
        real = orders.finish_slice

        def full_disk(lake: Lake, key: str, *rest: Any) -> Any:
            order = lake_orders.read_order(lake, key)
            if order and order.header["shard"] == three[2]:
                raise RetryableError("disk full")
            return real(lake, key, *rest)

        monkeypatch.setattr(orders, "finish_slice", full_disk)
        with pytest.raises(RetryableError, match=r"2 of 3 orders failed.*NotFoundError.*disk full"):
            desk.run()

        monkeypatch.setattr(orders, "finish_slice", real)
        with pytest.raises(DataError, match="1 of 3 orders failed"):
            desk.run()
        assert {row["shard_id"] for row in desk.raw("outcomes")} == {three[1], three[2]}

    def test_an_unexpected_error_is_named_and_stops_no_other(self, desk, three, monkeypatch):
        real = orders.commit_order

        def surprise(lake: Lake, order: Any, last: str) -> Any:
            if order.header["shard"] == three[0]:
                raise KeyError("surprise")
            return real(lake, order, last)

        monkeypatch.setattr(orders, "commit_order", surprise)
        with pytest.raises(Exception, match="KeyError: 'surprise'"):
            desk.run()
        assert {row["shard_id"] for row in desk.raw("outcomes")} == set(three[1:])

    def test_being_told_to_stop_begins_no_further_order(self, desk, three, monkeypatch):
        def stop(*_: Any) -> Any:
            raise StoppedError("stopped by SIGTERM")

        monkeypatch.setattr(orders, "finish_slice", stop)
        with pytest.raises(StoppedError, match=r"^stopped by SIGTERM$"):
            desk.run()
        assert len([k for k in desk.lake.store.list("units/") if "requests" not in k.key]) == 1


class TestExactlyOnce:
    def test_running_twice_changes_nothing(self, desk, many, fakes):
        first = desk.run()
        rows = (desk.raw("outcomes"), desk.raw("tags"))
        batches = len(fakes.FakeTag.seen)
        second = desk.run()

        assert (desk.raw("outcomes"), desk.raw("tags")) == rows
        assert second.counts == first.counts
        assert (second.worked, len(fakes.FakeTag.seen)) == (0, batches)

    def test_a_failed_try_resumes_after_its_finished_slices(self, desk, many, fakes, monkeypatch):
        real, calls = orders.finish_slice, []

        def second_fails(lake: Lake, key: str, number: int, *rest: Any) -> Any:
            calls.append(number)
            if calls == [0, 1]:
                raise RetryableError("disk full")
            return real(lake, key, number, *rest)

        monkeypatch.setattr(orders, "finish_slice", second_fails)
        with pytest.raises(RetryableError):
            desk.run()
        assert desk.raw("outcomes") == []
        summary = desk.run()

        assert calls == [0, 1, 1, 2]
        assert (summary.counts, summary.worked) == ({"ok": 25}, 15)
        assert desk.outcomes() == dict.fromkeys(many, ("ok", None))
        assert desk.raw("runs")[0]["images"] == 15

    def test_of_two_twins_each_slice_counts_once(self, desk, many, fakes, monkeypatch):
        real, inside = orders.finish_slice, []

        def twin_is_faster(lake: Lake, key: str, number: int, *rest: Any) -> Any:
            if not inside:
                inside.append(True)
                desk.run()  # a whole other process in between
            return real(lake, key, number, *rest)

        monkeypatch.setattr(orders, "finish_slice", twin_is_faster)
        summary = desk.run()

        assert summary.counts == {"ok": 25}
        assert desk.outcomes() == dict.fromkeys(many, ("ok", None))
        assert sorted(row["image_id"] for row in desk.raw("tags")) == sorted(many)
        named = {row.path for row in _parts(desk.lake)}
        assert {k.key.removeprefix("tables/tags/") for k in desk.lake.store.list("tables/tags/parts/")} == named

    def test_a_forced_run_shows_its_rows_once(self, desk, many):
        desk.run()
        desk.run(name="again", force=True)

        assert len(desk.raw("tags")) == 50
        assert len(Snapshot.take(desk.lake).sql("select * from tags")) == 25


def _parts(lake: Lake) -> list[Any]:
    keys = [k.key for k in lake.store.list("units/") if k.key.count("/") == 2 and "requests" not in k.key]
    slices = [lake_orders.read_slice(lake, key.split("/")[1], int(key.split("/")[2][:5])) for key in keys]
    return [part for record in slices if record for part in record.parts if part.table == "tags"]


class TestMistakes:
    def test_a_stage_the_request_does_not_name_is_refused(self, desk, many):
        key = desk.plan(stages=["tag"]).key

        with pytest.raises(ConfigurationError, match="it names no model for 'ground'"):
            run_stage(desk.lake, desk.catalog, "ground", key, 0, device="cpu")

    def test_an_unknown_request_is_refused(self, desk):
        with pytest.raises(NotFoundError):
            run_stage(desk.lake, desk.catalog, "tag", "nothing", 0, device="cpu")
