"""Whatever happens in whatever order: no url is in two open shards, and in the end every url is settled.

``make soak`` tries many more sequences.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as search_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from interruptions import Killed, at_write, kill

from etl.errors import DataError
from etl.ingest.planning import ShardRef, make_plan, plan_shards
from etl.ingest.shards import Shard, open_shards, read_urls
from etl.lake import Lake, Snapshot
from etl.lake.ids import url_digest
from etl.lake.maintenance import compact
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.schemas import TABLES
from etl.lake.units import fence_unit
from etl.settings import Settings, Source

lengths = st.integers(1, 12)  # of the list, which grows and shrinks
writes = st.integers(0, 9)


class Plans(RuleBasedStateMachine):
    """Plans over versions of one list, and what gets into their way."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="groundlake-property-"))
        options = Settings(scratch=self.folder / "scratch", commit_deadline=20)
        self.lake = Lake.create(str(self.folder / "lake"), options)
        self.requests = 0
        self.listed: set[str] = set()

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            self.in_the_end_every_url_is_settled()
        finally:
            shutil.rmtree(self.folder)

    @rule(length=lengths, retry_failed=st.booleans())
    def plan(self, length: int, retry_failed: bool) -> None:
        self.requests += 1
        self.ask(f"r{self.requests}", length, retry_failed)

    @rule(number=st.integers(1, 3), length=lengths)
    def ask_again(self, number: int, length: int) -> None:
        self.ask(f"r{number}", length, False)

    @rule(first=lengths, second=lengths, at=writes)
    def two_at_once(self, first: int, second: int, at: int) -> None:
        with at_write(self.lake, at, lambda: self.plan(second, False)):
            self.plan(first, True)

    @rule(length=lengths, at=writes)
    def killed(self, length: int, at: int) -> None:
        with contextlib.suppress(Killed), at_write(self.lake, at, kill):
            self.plan(length, False)

    @rule(number=st.integers(0, 5), failing=st.integers(0, 4))
    def settle(self, number: int, failing: int) -> None:
        """One of the open shards; its first urls fail for a passing reason."""
        for shard in self.open()[number : number + 1]:
            self.download(shard, failing)

    @rule(number=st.integers(0, 3))
    def sweep(self, number: int) -> None:
        for shard in self.open()[number : number + 1]:
            fence_unit(self.lake, shard.ref.unit, "downloads")

    @rule(number=st.integers(0, 5))
    def by_hand(self, number: int) -> None:
        with Snapshot.take(self.lake).connect() as connection:
            known = connection.sql("select distinct shard_id from shards order by 1").fetchall()
        self.requests += 1
        with contextlib.suppress(DataError):  # its urls are in another open shard
            plan_shards(self.lake, [name for (name,) in known[number : number + 1]], f"h{self.requests}")

    @rule()
    def compaction(self) -> None:
        compact(self.lake, "shards")

    @invariant()
    def no_url_is_in_two_open_shards(self) -> None:
        urls = Counter(url for shard in self.open() for url in self.urls(shard))
        assert all(times == 1 for times in urls.values())

    def in_the_end_every_url_is_settled(self) -> None:
        self.plan(12, False)
        for shard in self.open():
            self.download(shard, 0)
        assert self.ask("last", 12, False) == []
        with Snapshot.take(self.lake).connect() as connection:
            settled = connection.sql("select distinct url from downloads").fetchall()
        assert {url for (url,) in settled} == self.listed

    def ask(self, request: str, length: int, retry_failed: bool) -> list[ShardRef]:
        urls = [f"http://host.example/{number}.jpg" for number in range(length)]
        path = self.folder / f"{length}.txt"
        path.write_text("\n".join(urls))
        source = Source(name="mine", uri=str(path), shard_size=4)
        plan = make_plan(self.lake, source, request, retry_failed=retry_failed)
        self.listed |= {url for shard in self.open() for url in self.urls(shard)}
        return list(plan.refs)

    def open(self) -> list[Shard]:
        return [shard for shard, _ in open_shards(Snapshot.take(self.lake), "mine")]

    def urls(self, shard: Shard) -> list[str]:
        found: list[str] = read_urls(self.lake, shard.urls_key)["url"].to_pylist()
        return found

    def download(self, shard: Shard, failing: int) -> None:
        rows = []
        for number, url in enumerate(sorted(self.urls(shard))):
            row = dict.fromkeys(TABLES["downloads"].schema.names)
            row |= {"url": url, "url_sha256": url_digest(url), "shard_id": shard.ref.shard_id}
            row |= {"attempt": shard.ref.attempt, "unit": shard.ref.unit, "tried_at": datetime.now(UTC)}
            row |= {"status": "ok", "image_id": url_digest(url)}
            rows.append(row | ({"status": "failed", "error_class": "timeout"} if number < failing else {}))
        order = open_order(self.lake, shard.ref.unit, {"stage": "ingest"}, lambda: [{}])
        tables = {"downloads": pa.Table.from_pylist(rows, TABLES["downloads"].schema)}
        finish_slice(self.lake, shard.ref.unit, 0, tables, {})
        commit_order(self.lake, order, last="downloads")


def search(examples: int, steps: int, *, same: bool) -> None:
    run_state_machine_as_test(
        Plans,
        settings=search_settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=same,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_sequences() -> None:
    search(2, 5, same=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_sequences() -> None:
    search(300, 20, same=False)
