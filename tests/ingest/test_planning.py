"""Shards are named by their content, planned once, and hold only urls that nobody has settled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.ingest import planning
from etl.ingest.counts import source_counts
from etl.ingest.planning import IngestPlan, ShardRef, make_plan, plan_ingest, plan_shards
from etl.ingest.shards import find_shard, read_urls
from etl.lake import Lake, Snapshot
from etl.lake.ids import url_digest
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.schemas import TABLES
from etl.lake.units import fence_unit
from etl.settings import Source
from etl.settings.catalog import Download


def urls(first: int, last: int) -> list[str]:
    return [f"http://host.example/{number}.jpg" for number in range(first, last)]


def source(tmp_path: Path, listed: Sequence[str], **changes: object) -> Source:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(listed))
    return Source.model_validate({"name": "mine", "uri": str(path), "shard_size": 4, **changes})


def planned_urls(lake: Lake, refs: Sequence[ShardRef]) -> list[str]:
    snapshot = Snapshot.take(lake)
    found: list[str] = []
    for ref in refs:
        found += read_urls(lake, find_shard(snapshot, ref.shard_id, ref.attempt).urls_key)["url"].to_pylist()
    return found


def settle(lake: Lake, refs: Sequence[ShardRef], failures: Mapping[str, str] | None = None) -> None:
    """Commit downloads of some shards: ok, but for the urls in ``failures``, which fail with a class."""
    for ref in refs:
        rows = []
        for url in planned_urls(lake, [ref]):
            error_class = (failures or {}).get(url)
            row = dict.fromkeys(TABLES["downloads"].schema.names)
            row |= {"url": url, "url_sha256": url_digest(url), "shard_id": ref.shard_id, "attempt": ref.attempt}
            row |= {"unit": ref.unit, "status": "failed" if error_class else "ok", "error_class": error_class}
            rows.append({**row, "image_id": None if error_class else url_digest(url), "tried_at": datetime.now(UTC)})
        order = open_order(lake, ref.unit, {}, lambda: [{}])
        finish_slice(lake, ref.unit, 0, {"downloads": pa.Table.from_pylist(rows, TABLES["downloads"].schema)}, {})
        commit_order(lake, order, last="downloads")


def shard_rows(lake: Lake) -> int:
    with Snapshot.take(lake).connect() as connection:
        return int(connection.sql("select count(*) from raw.shards").fetchall()[0][0])


def test_every_url_is_in_exactly_one_shard_of_the_wanted_size(tmp_path: Path, lake: Lake) -> None:
    refs = plan_ingest(lake, source(tmp_path, urls(0, 10)), "r")
    assert [len(planned_urls(lake, [ref])) for ref in refs] == [4, 4, 2]
    assert sorted(planned_urls(lake, refs)) == sorted(urls(0, 10))
    assert {ref.attempt for ref in refs} == {1}


def test_the_same_request_plans_the_same_shards_even_when_the_list_has_grown(tmp_path: Path, lake: Lake) -> None:
    first = make_plan(lake, source(tmp_path, urls(0, 5)), "r")
    assert make_plan(lake, source(tmp_path, urls(0, 9)), "r") == first
    assert shard_rows(lake) == 2


def test_the_same_urls_make_the_same_shards_in_any_order_and_any_lake(tmp_path: Path, lake: Lake) -> None:
    first = plan_ingest(lake, source(tmp_path, urls(0, 10)), "r")
    other = Lake.create(str(tmp_path / "other"), lake.settings)
    assert plan_ingest(other, source(tmp_path, urls(0, 10)[::-1]), "another request") == first


@pytest.mark.parametrize("change", [{"name": "other"}, {"download": Download(timeout=11)}])
def test_source_and_download_settings_are_part_of_a_shards_id(
    tmp_path: Path, lake: Lake, change: dict[str, object]
) -> None:
    first = plan_ingest(lake, source(tmp_path, urls(0, 4)), "r")
    other = Lake.create(str(tmp_path / "other"), lake.settings)
    assert plan_ingest(other, source(tmp_path, urls(0, 4), **change), "r")[0].shard_id != first[0].shard_id


def test_open_shards_come_back_to_the_next_request(tmp_path: Path, lake: Lake) -> None:
    mine = source(tmp_path, urls(0, 10))
    first = plan_ingest(lake, mine, "killed")
    settle(lake, first[:1])
    resumed = make_plan(lake, mine, "next")
    assert (sorted(resumed.refs, key=str), resumed.planned) == (sorted(first[1:], key=str), 0)
    assert shard_rows(lake) == 3


def test_a_plan_killed_before_its_record_adds_no_shard_twice(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = source(tmp_path, urls(0, 10))
    with monkeypatch.context() as patch:
        patch.setattr("etl.ingest.planning.asdict", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            plan_ingest(lake, mine, "r")
    plan = make_plan(lake, mine, "r")
    assert sorted(planned_urls(lake, plan.refs)) == sorted(urls(0, 10))
    assert (shard_rows(lake), plan.planned) == (3, 10)


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_added_urls_make_new_shards_and_move_none(tmp_path: Path, lake: Lake) -> None:
    first = plan_ingest(lake, source(tmp_path, urls(0, 6)), "monday")
    settle(lake, first, {urls(0, 6)[0]: "http_404"})
    second = make_plan(lake, source(tmp_path, urls(0, 9)), "tuesday")
    assert (sorted(planned_urls(lake, second.refs)), second.planned) == (sorted(urls(6, 9)), 3)
    assert not {ref.shard_id for ref in first} & {ref.shard_id for ref in second.refs}


def test_nothing_new_plans_nothing(tmp_path: Path, lake: Lake) -> None:
    mine = source(tmp_path, urls(0, 6))
    settle(lake, plan_ingest(lake, mine, "monday"))
    plan = make_plan(lake, mine, "tuesday")
    assert (plan.refs, plan.listed, plan.planned) == ((), 6, 0)


def test_retry_failed_plans_passing_failures_as_a_new_attempt(tmp_path: Path, lake: Lake) -> None:
    mine = source(tmp_path, urls(0, 4))
    a, b, c = urls(0, 3)
    first = plan_ingest(lake, mine, "monday")
    settle(lake, first, {a: "timeout", b: "http_503", c: "http_404"})
    assert plan_ingest(lake, mine, "tuesday") == []
    again = plan_ingest(lake, mine, "wednesday", retry_failed=True)
    assert sorted(planned_urls(lake, again)) == [a, b]
    assert [ref.attempt for ref in again] == [2]
    settle(lake, again, {b: "dns"})
    counts = source_counts(Snapshot.take(lake), "mine")
    assert (counts.ok, counts.failed, counts.n_urls) == (2, {"dns": 1, "http_404": 1}, 4)  # a worked the second time
    assert planned_urls(lake, plan_ingest(lake, mine, "thursday", retry_failed=True)) == [b]


def test_an_outage_night_is_a_new_attempt_of_the_same_shard(tmp_path: Path, lake: Lake) -> None:
    mine = source(tmp_path, urls(0, 4))
    first = plan_ingest(lake, mine, "monday")
    settle(lake, first, dict.fromkeys(urls(0, 4), "connection"))
    (again,) = plan_ingest(lake, mine, "tuesday", retry_failed=True)
    assert (again.shard_id, again.attempt) == (first[0].shard_id, 2)
    assert again.unit != first[0].unit


def test_a_blocked_url_is_tried_again_once_private_addresses_are_allowed(tmp_path: Path, lake: Lake) -> None:
    settle(lake, plan_ingest(lake, source(tmp_path, urls(0, 1)), "monday"), {urls(0, 1)[0]: "blocked"})
    assert plan_ingest(lake, source(tmp_path, urls(0, 1)), "tuesday", retry_failed=True) == []
    allowed = source(tmp_path, urls(0, 1), download={"allow_private_addresses": True})
    assert planned_urls(lake, plan_ingest(lake, allowed, "wednesday", retry_failed=True)) == urls(0, 1)


def test_bad_urls_are_planned_like_others(tmp_path: Path, lake: Lake) -> None:
    listed = ["http://a/1", "not a url", "ftp://a/2"]
    assert sorted(planned_urls(lake, plan_ingest(lake, source(tmp_path, listed), "r"))) == sorted(listed)


def test_a_source_is_recorded_once_per_content(tmp_path: Path, lake: Lake) -> None:
    for request, last in (("a", 3), ("b", 3), ("c", 5)):
        plan_ingest(lake, source(tmp_path, urls(0, last), licence="CC0-1.0"), request)
    with Snapshot.take(lake).connect() as connection:
        assert connection.sql("select n_urls, licence from raw.sources order by 1").fetchall() == [
            (3, "CC0-1.0"),
            (5, "CC0-1.0"),
        ]
        assert connection.sql("select name, n_urls from sources").fetchall() == [("mine", 5)]


def test_a_list_without_urls_plans_nothing_and_says_so(tmp_path: Path, lake: Lake) -> None:
    with pytest.raises(DataError, match="holds no urls"):
        plan_ingest(lake, source(tmp_path, []), "r")
    assert shard_rows(lake) == 0


def test_a_list_elsewhere_is_refused(lake: Lake) -> None:
    with pytest.raises(ConfigurationError, match="not a local file"):
        plan_ingest(lake, Source(name="mine", uri="https://example.org/list.csv"), "r")


def test_planning_loads_no_img2dataset() -> None:
    script = "import sys, etl.ingest.planning, etl.ingest.shard; sys.exit('img2dataset' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


class TestTwoPlansAtOnce:
    """The second plan is made while the first has looked at the lake and not yet written its shards."""

    def interleave(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
        real = planning.append_guarded

        def late(*given: Any, **options: Any) -> bool:
            monkeypatch.setattr(planning, "append_guarded", real)
            meanwhile()
            return real(*given, **options)

        monkeypatch.setattr(planning, "append_guarded", late)

    def test_over_two_versions_of_a_growing_list_put_no_url_into_two_shards(
        self, tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = source(tmp_path, urls(0, 6))
        (tmp_path / "grown").mkdir()
        grown = source(tmp_path / "grown", urls(0, 9))
        self.interleave(monkeypatch, lambda: plan_ingest(lake, grown, "second"))

        first = make_plan(lake, mine, "first")

        assert sorted(planned_urls(lake, first.refs)) == sorted(urls(0, 9))
        assert (shard_rows(lake), first.planned) == (3, 0), "the second was first, and planned all of them"

    def test_of_one_request_are_one(self, tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = source(tmp_path, urls(0, 6))
        twin: list[IngestPlan] = []
        self.interleave(monkeypatch, lambda: twin.append(make_plan(lake, mine, "r")))

        assert [make_plan(lake, mine, "r")] == twin
        assert shard_rows(lake) == 2

    def test_of_named_shards_give_one_new_attempt(
        self, tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 3)), "night")
        settle(lake, [ref])
        self.interleave(monkeypatch, lambda: plan_shards(lake, [ref.shard_id], "second"))

        assert plan_shards(lake, [ref.shard_id], "first") == [ShardRef(ref.source, ref.shard_id, 2)]
        assert shard_rows(lake) == 2


class TestFencedShards:
    """Swept after days without progress: nothing can ever be committed under that attempt."""

    def test_is_planned_anew_as_the_next_attempt_of_its_own_or_of_its_urls(self, tmp_path: Path, lake: Lake) -> None:
        mine = source(tmp_path, urls(0, 4))
        (dead,) = plan_ingest(lake, mine, "night")
        assert fence_unit(lake, dead.unit, "downloads")

        (by_hand,) = plan_shards(lake, [dead.shard_id], "by hand")
        (again,) = plan_ingest(lake, mine, "next night")

        assert again == by_hand == ShardRef(dead.source, dead.shard_id, 2)
        assert shard_rows(lake) == 2

    def test_its_urls_join_new_ones(self, tmp_path: Path, lake: Lake) -> None:
        (dead,) = plan_ingest(lake, source(tmp_path, urls(0, 2)), "night")
        fence_unit(lake, dead.unit, "downloads")

        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 4)), "next night")

        assert (ref.attempt, sorted(planned_urls(lake, [ref]))) == (1, sorted(urls(0, 4)))


class TestNamedShards:
    def test_one_whose_urls_are_in_another_open_shard_is_refused(self, tmp_path: Path, lake: Lake) -> None:
        mine = source(tmp_path, urls(0, 3))
        (ref,) = plan_ingest(lake, mine, "night")
        settle(lake, [ref], {urls(0, 3)[0]: "timeout"})
        (again,) = plan_ingest(lake, mine, "retry", retry_failed=True)

        with pytest.raises(DataError, match=f"1 urls of shard {ref.shard_id} are in shard {again.shard_id} too"):
            plan_shards(lake, [ref.shard_id], "by hand")
        assert plan_shards(lake, [again.shard_id], "by hand") == [again]

    def test_an_open_shard_is_taken_as_it_is(self, tmp_path: Path, lake: Lake) -> None:
        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 3)), "night")

        assert plan_shards(lake, [ref.shard_id[:8]], "by hand") == [ref]
        assert shard_rows(lake) == 1

    def test_a_settled_shard_is_a_new_attempt_over_the_same_urls_however_often_the_request_is_asked(
        self, tmp_path: Path, lake: Lake
    ) -> None:
        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 3)), "night")
        settle(lake, [ref])

        asked = [plan_shards(lake, [ref.shard_id[:8]], "by hand") for _ in range(2)]

        assert asked == [[ShardRef(ref.source, ref.shard_id, 2)]] * 2
        assert planned_urls(lake, asked[0]) == planned_urls(lake, [ref])
        assert shard_rows(lake) == 2

    def test_a_plan_killed_before_its_record_gives_the_same_attempt_again(
        self, tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 3)), "night")
        settle(lake, [ref])
        with monkeypatch.context() as patch:
            patch.setattr("etl.ingest.planning.asdict", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                plan_shards(lake, [ref.shard_id], "by hand")

        assert [again.attempt for again in plan_shards(lake, [ref.shard_id], "by hand")] == [2]
        assert shard_rows(lake) == 2

    def test_a_shard_nobody_knows_is_refused_with_the_known_ones(self, tmp_path: Path, lake: Lake) -> None:
        (ref,) = plan_ingest(lake, source(tmp_path, urls(0, 3)), "night")

        with pytest.raises(UnknownNameError, match=ref.shard_id):
            plan_shards(lake, ["zzz"], "by hand")
