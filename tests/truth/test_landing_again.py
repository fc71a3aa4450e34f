"""Landing is exactly once: again, killed, beside itself, after more was ingested, and over pictures taken down."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from handmade import Picture
from interruptions import Killed, at_write
from sound_lake import Sound
from truth_files import image, write

from etl.lake import Lake, claims, maintenance
from etl.lake.check import Scope, check
from etl.lake.schemas import TABLES
from etl.lake.takedown import PURGED, Request, add, purge, target
from etl.lake.units import open_units
from etl.truth import landing
from etl.truth.coco import read_coco
from etl.truth.landing import Landed, land_truth
from etl.truth.model import Truth


def land(lake: Lake, truth: Truth, request: str = "r", source: str = "web") -> Landed:
    return land_truth(lake, truth, name="t", source=source, request=request)


def findings(lake: Lake) -> list[str]:
    return [str(one) for one in check(lake, Scope(tuple(TABLES), everything=True))]


@pytest.fixture
def all_there(raw):
    """That every picture has its tags once, and nothing is open."""

    def look(web: Sound, orders: int = 1) -> None:
        expected = dict.fromkeys(web.ids, 1)
        for table in ("outcomes", "tags"):
            assert Counter(row["image_id"] for row in raw(web.lake, table)) == expected, table
        assert len(raw(web.lake, "orders")) == orders
        assert len(raw(web.lake, "annotators")) == 1
        assert not open_units(web.lake)

    return look


def test_again_nothing_is_new_and_no_row_is_added(world, raw):
    before = {table: len(raw(world.lake, table)) for table in TABLES}
    again = land_truth(world.lake, world.truth, name="made", source="hand", request="again")

    assert again.new == 0
    assert [one.counts for one in again.stages] == [one.counts for one in world.landed.stages]
    assert {table: len(raw(world.lake, table)) for table in TABLES} == before


def test_after_more_was_ingested_only_that_is_landed(world, tmp_path):
    places = enumerate(("0/0", "2/0", "2/1"))
    images = [image(n, (64, 48), f"http://example.test/hand/{place}", tags=["any"]) for n, place in places]
    truth = read_coco(write(tmp_path, images, categories=[]))
    (first,) = land(world.lake, truth, "one", "hand").stages
    world.hand.add(Picture((64, 48), seed=70), Picture((64, 48), seed=71))
    (second,) = land(world.lake, truth, "two", "hand").stages

    assert (first.new, first.counts) == (1, {"ok": 1})
    assert (second.new, second.counts) == (2, {"ok": 3})


def test_many_pictures_make_several_orders_and_a_retry_knows_them_all(web, tags, raw, all_there, monkeypatch):
    monkeypatch.setattr(landing, "ORDER_IMAGES", 5)
    landed = land(web.lake, tags)
    retried = land(web.lake, tags)

    assert sorted(row["n_items"] for row in raw(web.lake, "orders")) == [2, 5, 5]
    assert landed.stages == retried.stages
    all_there(web, orders=3)


@contextlib.contextmanager
def dying(lake: Lake, writes: int) -> Iterator[None]:
    """The process is killed once it has written so many times; at the latest, before the next one."""
    left = [writes]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*given, **options)

        return call

    with contextlib.suppress(Killed), pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (lake.store, "put"),
            (lake.store, "put_if_absent"),
            (lake, "commit"),
            (claims, "append_guarded"),
        ):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield
        pytest.fail("it ended before")


# What a try has written when it dies, on top of those before it: half of the annotator; the order's list and the part
# with its row; both registered; the order published, and the parts of a slice; the slices, and one table of two.
TRIES = (1, 4, 3, 3, 7)


def test_killed_between_any_two_steps_the_next_one_does_the_rest(web, tags, all_there):
    for number, writes in enumerate(TRIES):
        with dying(web.lake, writes):
            land(web.lake, tags, f"try {number}")
    (left,) = open_units(web.lake)

    assert land(web.lake, tags, "last").stages[0].counts == {"ok": 12}
    assert web.lake.table("tags").transaction_version(left.key) == 1
    all_there(web)
    assert findings(web.lake) == []


@pytest.mark.parametrize("moment", [3, 8], ids=["before the order is registered", "before a slice is named"])
def test_two_at_once_share_the_work(web, tags, all_there, moment):
    other: list[Landed] = []
    with at_write(web.lake, moment, lambda: other.append(land(web.lake, tags, "other")) if not other else None):
        mine = land(web.lake, tags, "mine")

    assert len(other) == 1
    assert mine.stages[0].counts == other[0].stages[0].counts == {"ok": 12}
    all_there(web)


def test_an_order_that_nobody_ended_is_swept_and_its_pictures_are_landed_by_the_next(web, tags, raw):
    with dying(web.lake, 9):
        land(web.lake, tags, "dead")
    (dead,) = (unit.key for unit in open_units(web.lake))
    maintenance.sweep(web.lake, now=time.time() + 30 * 86400)

    assert land(web.lake, tags, "next").stages[0].counts == {"ok": 12}
    assert dead not in {row["unit"] for row in raw(web.lake, "outcomes")}


class TestTakedown:
    def take_down(self, lake: Lake, image_id: str) -> None:
        add(lake, Request.of([target("image_id", image_id)], "asked"))

    def test_what_was_taken_down_before_is_skipped_and_counted(self, web, tags, raw):
        self.take_down(web.lake, web.ids[3])
        landed = land(web.lake, tags)

        assert (landed.matches.found, landed.matches.taken_down, landed.absent) == (11, 1, 0)
        assert landed.stages[0].counts == {"ok": 11}
        assert web.ids[3] not in {row["image_id"] for row in raw(web.lake, "outcomes")}

    def test_what_is_taken_down_while_it_lands_gets_no_rows(self, web, tags, raw, monkeypatch):
        real = landing.claim

        def claim(*given):
            claimed = real(*given)
            self.take_down(web.lake, web.ids[3])
            return claimed

        monkeypatch.setattr(landing, "claim", claim)
        landed = land(web.lake, tags)

        (row,) = (row for row in raw(web.lake, "outcomes") if row["image_id"] == web.ids[3])
        assert (row["status"], row["reason"]) == ("failed", "taken_down")
        assert web.ids[3] not in {row["image_id"] for row in raw(web.lake, "tags")}
        assert landed.stages[0].counts == {"ok": 11}

    def test_a_purge_removes_what_was_landed(self, world, raw):
        lake = Lake.open(world.lake.uri, world.lake.settings.model_copy(update={"purge_hours": 0}))
        before = {table: len(raw(lake, table)) for table in ("tags", "instances", "captions", "outcomes")}
        self.take_down(lake, world.ids[0])
        while any(one.state != PURGED for one in purge(lake)):
            continue

        assert {table: before[table] - len(raw(lake, table)) for table in before} == {
            "tags": 1,
            "instances": 2,
            "captions": 2,
            "outcomes": 3,
        }
