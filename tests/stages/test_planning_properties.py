"""Whatever happens in whatever order: no image is in two open orders, counts add up, and in the end nothing is left.

The stages are fakes; orders, tars, commits and views are the real ones. ``make soak`` tries many more sequences.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from handmade import Handmade, Picture
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from interruptions import Killed, at_write, kill
from rows import rows
from stage_desk import Desk

from etl.errors import GroundlakeError
from etl.lake import Lake, Snapshot
from etl.lake.claims import adopt
from etl.lake.ids import digest
from etl.lake.maintenance import compact
from etl.lake.orders import Order, commit_order, finish_slice, read_order, read_slice
from etl.lake.units import fence_unit, open_units
from etl.models.store import ModelStore
from etl.settings import Settings
from etl.stages.annotators import Annotator, register
from etl.stages.opening import open_stage_order
from etl.stages.planning import Group, Request, plan_groups
from etl.stages.staleness import annotator_chain, order_items

STAGES = ["tag", "ground"]
pictures = st.integers(0, 7)  # by their seed: two shards may hold the same one
writes = st.integers(0, 12)  # an order takes some eight


class Requests(RuleBasedStateMachine):
    """Requests, and what gets into their way."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="groundlake-property-"))
        options = Settings(scratch=self.folder / "scratch", commit_deadline=20, slice_size=3)
        self.lake = Lake.create(str(self.folder / "lake"), options)
        self.hand, self.desk = Handmade(self.lake), Desk(self.lake, fake_stages)
        self.requests = 0
        self.add({0, 1, 2})

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            self.in_the_end_nothing_is_left()
        finally:
            shutil.rmtree(self.folder)

    @rule(seeds=st.sets(pictures, min_size=1, max_size=4))
    def add(self, seeds: set[int]) -> None:
        self.hand.add(*(Picture(size=(4 + seed % 2, 4), seed=seed, format="PNG") for seed in sorted(seeds)))

    @rule(
        word=st.sampled_from(["dog", "cat"]), memory=st.sampled_from([998, 999]), failing=st.sets(pictures, max_size=2)
    )
    def change_the_tagger(self, word: str, memory: int, failing: set[int]) -> None:
        """Another word, and other tags; another memory, and another annotator that says the same."""
        ids = [self.hand.ids[seed] for seed in failing if seed < len(self.hand.ids)]
        self.desk.misbehave(word=word, memory=memory, raises=sorted(ids))

    @rule()
    def request(self) -> None:
        self.ask(self.new_name())

    @rule(number=st.integers(0, 3))
    @precondition(lambda self: self.requests > 0)
    def retry(self, number: int) -> None:
        self.ask(f"r{number % self.requests}")

    @rule(at=writes)
    def killed(self, at: int) -> None:
        with contextlib.suppress(Killed), at_write(self.lake, at, kill):
            self.ask(self.new_name())

    @rule(at=writes)
    def two_at_once(self, at: int) -> None:
        other = self.new_name()
        with at_write(self.lake, at, lambda: self.ask(other)):
            self.ask(self.new_name())

    @rule(number=st.integers(0, 20))
    def take_down(self, number: int) -> None:
        self.hand.take_down(self.hand.ids[number % len(self.hand.ids)])

    @rule(table=st.sampled_from(["outcomes", "orders", "tags"]))
    def compaction(self, table: str) -> None:
        compact(self.lake, table)

    @rule()
    def sweep(self) -> None:
        for unit in open_units(self.lake)[:1]:
            fence_unit(self.lake, unit.key, "outcomes")

    @invariant()
    def all_is_well(self) -> None:
        """No image in two open orders, one visible outcome per image and annotator, and counts that add up."""
        snapshot = Snapshot.take(self.lake)
        with snapshot.connect() as connection:
            orders = connection.sql("select * from raw.orders").to_arrow_table().to_pylist()
            (twice,) = connection.sql(
                "select count(*) from (select 1 from all_outcomes group by image_id, annotator_id having count(*) > 1)"
            ).fetchone()
            (images,) = connection.sql("select count(*) from images").fetchone()
            counted = connection.sql(
                "select (select count(*) from outcomes where stage = 'tag'), (select count(*) from images i "
                "anti join (from outcomes where stage = 'tag') o using (image_id))"
            ).fetchone()
        assert (twice, sum(counted)) == (0, images)
        closed = self.lake.table("outcomes")
        listed: Counter[tuple[str, ...]] = Counter()
        for row in orders:
            if closed.transaction_version(row["unit"]) is None:
                listed.update((row["annotator_id"], *pair) for pair in self.pairs(row))
        assert all(times == 1 for times in listed.values())

    def pairs(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        order = read_order(self.lake, row["unit"])
        items = order.items if order else self.lake.store.read_json(row["items"])["items"]  # not published yet
        assert len(items) == row["n_items"]
        return [(item["image_id"], item["input_digest"]) for item in items]

    def in_the_end_nothing_is_left(self) -> None:
        for _ in range(3):  # failing images are tried three times
            if not self.stale():
                break
            self.ask(self.new_name())
        assert not self.stale()
        self.all_is_well()

    def new_name(self) -> str:
        self.requests += 1
        return f"r{self.requests - 1}"

    def ask(self, name: str) -> None:
        """A request that claims and finishes orders of stage ``tag``; results are written by hand."""
        shards = [digest("shard", "hand", number) for number in range(self.hand.shards)]
        group = Group("hand", tuple(shards), {"tag": "fake-tag"}, orders=tuple((shard,) for shard in shards))
        made = Request(name, name, f"2026-02-01T00:00:{int(name[1:]) % 60:02d}+00:00", ("tag",), groups=(group,))
        failing = set(self.tagger.entry.options.get("raises", ()))
        blockers: set[str] = set()
        for members in group.members:
            claimed = open_stage_order(self.lake, made, group, [self.tagger], members)
            blockers |= claimed.blockers
            if claimed.order:
                self.work(claimed.order, failing)
        for unit in blockers:
            self.work(adopt(self.lake, unit), failing)

    def work(self, order: Order, failing: set[str]) -> None:
        if self.lake.table("outcomes").transaction_version(order.key) is not None:
            return
        for number, items in order.slices():
            if read_slice(self.lake, order.key, number) is None:
                outcomes = rows("outcomes", *(self.outcome(order, item, failing) for item in items))
                finish_slice(self.lake, order.key, number, {"outcomes": outcomes}, {"ok": len(items)})
        commit_order(self.lake, order, "outcomes")

    def outcome(self, order: Order, item: Mapping[str, Any], failing: set[str]) -> dict[str, Any]:
        return {
            "image_id": item["image_id"],
            "shard_id": item["shard_id"],
            "annotator_id": order.header["annotator_id"],
            "unit": order.key,
            "requested_at": datetime.fromisoformat(order.header["requested_at"]),
            "input_digest": item["input_digest"],
            "status": "failed" if item["image_id"] in failing else "ok",
            "retryable": True,
        }

    def stale(self) -> bool:
        shards = [digest("shard", "hand", number) for number in range(self.hand.shards)]
        return bool(order_items(Snapshot.take(self.lake), shards, [self.tagger], force=False))

    @property
    def tagger(self) -> Annotator:
        models = ModelStore(self.lake.store, self.lake.settings.scratch)
        (tagger,) = annotator_chain(self.desk.catalog, models, "tag", {"tag": "fake-tag"})
        register(self.lake, tagger, "hand")
        return tagger


class WholeRequests(Requests):
    """The same with both stages and all of planning and running; ten times slower."""

    def ask(self, name: str) -> None:
        """What ``annotate run`` does; an order that was swept ends a request, which is then made anew."""
        request = self.desk.plan(name, stages=STAGES)
        for group in range(len(request.groups)):
            for stage in request.stages:
                with contextlib.suppress(GroundlakeError):
                    self.desk.run(stage, name, group=group)

    def stale(self) -> bool:
        return bool(plan_groups(self.lake, self.desk.catalog, stages=STAGES))


def search(machine: type[Requests], examples: int, steps: int, *, same: bool) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_sequences(fakes: Any) -> None:
    search(Requests, 2, 6, same=True)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("machine", "examples"), [(Requests, 200), (WholeRequests, 40)])
def test_many_sequences(fakes: Any, machine: type[Requests], examples: int) -> None:
    search(machine, examples, 20, same=False)
