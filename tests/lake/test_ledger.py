"""The ledger counts every image of every stage exactly once."""

from __future__ import annotations

from handmade import Handmade, Picture, Thing, annotator_id

from etl.lake import Lake, Snapshot
from etl.lake.ledger import read_ledger

DOG = Thing("dog", (10, 10, 60, 60), "a dog")
PICTURES = [Picture(size=(80, 80), things=[DOG], seed=1), Picture(size=(80, 80), seed=2)]


def test_an_empty_lake_has_no_sources(lake: Lake) -> None:
    assert read_ledger(Snapshot.take(lake)) == []


def test_images_that_nobody_looked_at_are_pending_and_have_no_annotator(lake: Lake) -> None:
    Handmade(lake).add(*PICTURES)
    (state,) = read_ledger(Snapshot.take(lake))
    assert (state.source, state.images, state.open_shards) == ("hand", 2, 0)
    assert [(s.stage, s.pending, s.model) for s in state.stages] == [
        (stage, 2, None) for stage in ("tag", "ground", "caption", "embed")
    ]


def test_ok_empty_failed_and_pending_add_up_to_the_images_of_every_stage(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(*PICTURES), *PICTURES)
    failed = hand.add(Picture(size=(80, 80), seed=3), Picture(size=(80, 80), seed=4))
    hand.outcomes("ground", failed, [("failed", "decode"), ("failed", "not_finite")])
    hand.add(Picture(size=(80, 80), seed=5), failed=["http_404"])
    (state,) = read_ledger(Snapshot.take(lake))
    ground = next(one for one in state.stages if one.stage == "ground")
    assert (ground.ok, ground.empty, ground.failed) == (1, {"no_boxes": 1}, {"decode": 1, "not_finite": 1})
    assert (ground.pending, ground.model, ground.annotator_id) == (1, "ground-model", annotator_id("ground"))
    assert {stage.images for stage in state.stages} == {5} == {state.images}


def test_shards_show_whether_they_are_settled_and_what_is_pending(lake: Lake) -> None:
    hand = Handmade(lake)
    done = hand.add(*PICTURES, failed=["dns"])
    hand.annotate(done, *PICTURES)
    waiting = hand.add(Picture(size=(80, 80), seed=7), settle=False)
    (state,) = read_ledger(Snapshot.take(lake))
    assert [(s.shard_id, s.settled, s.urls, s.failed_urls, s.images) for s in state.shards] == [
        (done, True, 3, 1, 2),
        (waiting, False, 1, 0, 0),
    ]
    assert (state.open_shards, state.open_urls) == (1, 1)
    assert state.shards[0].pending == {}


def test_untrained_weights_are_marked(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(PICTURES[0]), PICTURES[0], untrained=True)
    (state,) = read_ledger(Snapshot.take(lake))
    assert all(stage.untrained for stage in state.stages)


def test_one_source_can_be_asked_for(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.add(PICTURES[0], source="one")
    hand.add(PICTURES[1], source="two")
    assert [state.source for state in read_ledger(Snapshot.take(lake))] == ["one", "two"]
    assert [state.source for state in read_ledger(Snapshot.take(lake), "two")] == ["two"]


def test_pictures_taken_down_leave_the_counts(lake: Lake) -> None:
    hand = Handmade(lake)
    hand.annotate(hand.add(*PICTURES), *PICTURES)
    hand.take_down(hand.ids[0])
    (state,) = read_ledger(Snapshot.take(lake))
    assert {stage.images for stage in state.stages} == {1}
