"""Opening orders: whatever comes between its steps, no image is in two open orders, and none is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from deltalake import exceptions as delta
from rows import rows

from etl.lake import Lake, Snapshot, claims
from etl.lake.claims import Claim, Found, LostListError, adopt, claim, known_orders, open_lists
from etl.lake.commit import CommitTimeoutError
from etl.lake.ids import digest
from etl.lake.orders import commit_order, finish_slice, order_key, read_order
from etl.lake.units import fence_unit

A, B = digest("request a"), digest("request b")
WANTED = {digest("image", n): "shard 1" for n in range(4)}
SOME = dict(list(WANTED.items())[:3])


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


def nothing() -> None:
    pass


def find(lake: Lake, wanted: Mapping[str, str], annotator: str) -> Found:
    """What a stage looks for: wanted images without an outcome that no open order lists."""
    snapshot = Snapshot.take(lake)
    blockers = set()
    with snapshot.connect() as connection:
        done = connection.execute("select image_id from raw.outcomes where annotator_id = ?", [annotator]).fetchall()
        left = set(wanted) - {image for (image,) in done}
        shards = sorted(set(wanted.values()))
        for unit, listed in open_lists(snapshot, connection, annotator, shards):
            if left & set(listed["image_id"].to_pylist()):
                blockers.add(unit)
            left -= set(listed["image_id"].to_pylist())
        known = known_orders(connection, annotator)
    return Found([{"image_id": i, "input_digest": i} for i in sorted(left)], shards, known, frozenset(blockers))


def ask(
    lake: Lake,
    key: str,
    wanted: Mapping[str, str] = WANTED,
    *,
    annotator: str = "tagger",
    found: Callable[[], None] = nothing,
) -> Claim:
    def look() -> Found:
        answer = find(lake, wanted, annotator)
        found()
        return answer

    return claim(lake, key, {"stage": "tag", "annotator_id": annotator, "request": key}, look)


def listed(claimed: Claim) -> list[str]:
    return [item["image_id"] for item in claimed.order.items] if claimed.order else []


def work(lake: Lake, key: str) -> None:
    order = read_order(lake, key)
    assert order is not None
    common = {"annotator_id": order.header["annotator_id"], "unit": key}
    outcomes = rows("outcomes", *({"image_id": item["image_id"], **common} for item in order.items))
    finish_slice(lake, key, 0, {"outcomes": outcomes}, {"ok": len(order.items)})
    commit_order(lake, order, "outcomes")


def registered(lake: Lake) -> list[str]:
    with Snapshot.take(lake).connect() as connection:
        return [unit for (unit,) in connection.sql("select unit from raw.orders order by unit").fetchall()]


def test_an_order_is_registered_and_published_with_the_same_list(lake: Lake) -> None:
    claimed = ask(lake, A)

    assert (listed(claimed), claimed.blockers) == (sorted(WANTED), frozenset())
    with Snapshot.take(lake).connect() as connection:
        (row,) = connection.sql("select * from raw.orders").to_arrow_table().to_pylist()
    assert (row["unit"], row["n_items"], row["shards"], row["annotator_id"]) == (A, 4, ["shard 1"], "tagger")
    assert [found.key for found in lake.store.list("units/")] == [order_key(A)], "the first list is not kept beside it"


def test_asked_again_it_is_the_same_and_nothing_is_looked_up(lake: Lake) -> None:
    first = ask(lake, A)

    def never() -> Found:
        raise AssertionError

    assert claim(lake, A, {}, never) == first


def test_what_an_open_order_lists_is_not_listed_again(lake: Lake) -> None:
    ask(lake, A, SOME)

    second = ask(lake, B)

    assert (listed(second), second.blockers) == (sorted(set(WANTED) - set(SOME)), {A})
    assert ask(lake, B).blockers == {A}, "a retry has to know whose order to help with"


def test_an_order_of_nothing_leaves_no_trace(lake: Lake) -> None:
    ask(lake, A)

    claimed = ask(lake, B)

    assert (claimed.order, claimed.blockers, registered(lake)) == (None, {A}, [A])
    assert [found.key for found in lake.store.list("units/")] == [order_key(A)]


def test_another_annotator_has_orders_of_its_own(lake: Lake) -> None:
    ask(lake, A)

    assert listed(ask(lake, B, annotator="other")) == sorted(WANTED)


def test_orders_without_a_shard_in_common_are_not_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(lake, A)
    monkeypatch.setattr(claims, "_pairs", None)

    assert len(listed(ask(lake, B, {digest("other image"): "shard 2"}))) == 1


def test_a_finished_order_holds_nothing_back(lake: Lake) -> None:
    ask(lake, A, SOME)
    work(lake, A)

    claimed = ask(lake, B)

    assert (listed(claimed), claimed.blockers) == (sorted(set(WANTED) - set(SOME)), frozenset())


def test_a_fenced_order_holds_nothing_back(lake: Lake) -> None:
    ask(lake, A)
    fence_unit(lake, A, "outcomes")

    assert listed(ask(lake, B)) == sorted(WANTED)


# Where the opener of order A is when something happens.
STEPS = ("looked", "list written", "registered", "published")


def at_step(lake: Lake, step: str, then: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Claim]:
    """Open order A, and have ``then`` happen once when that reaches ``step``."""
    done: list[str] = []
    put, put_if_absent, append = lake.store.put, lake.store.put_if_absent, claims.append_guarded

    def reached(name: str) -> None:
        if name == step and not done:
            done.append(name)
            then()

    def watched_put(key: str, data: bytes) -> None:
        put(key, data)
        if key.startswith(f"units/{A}/items-"):
            reached("list written")

    def watched_put_if_absent(key: str, data: bytes) -> bool:
        written = put_if_absent(key, data)
        if key == order_key(A):
            reached("published")
        return written

    def watched_append(*given: Any, **options: Any) -> bool:
        answer = append(*given, **options)
        if options["key"] == A:
            reached("registered")
        return answer

    monkeypatch.setattr(lake.store, "put", watched_put)
    monkeypatch.setattr(lake.store, "put_if_absent", watched_put_if_absent)
    monkeypatch.setattr(claims, "append_guarded", watched_append)
    return lambda: ask(lake, A, found=lambda: reached("looked"))


@pytest.mark.parametrize("step", ["list written", "registered"])
def test_two_requests_at_once_share_the_images(lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    other: list[Claim] = []
    first = at_step(lake, step, lambda: other.append(ask(lake, B, SOME)), monkeypatch)()

    assert sorted(listed(first) + listed(other[0])) == sorted(WANTED)
    assert first.blockers | other[0].blockers == ({B} if other[0].order else {A})
    assert registered(lake) == sorted([A, *([B] if other[0].order else [])])


@pytest.mark.parametrize("step", ["list written", "registered"])
def test_a_twin_gets_the_same_list(lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    twin: list[Claim] = []
    first = at_step(lake, step, lambda: twin.append(ask(lake, A, SOME)), monkeypatch)()

    assert first == twin[0]
    assert read_order(lake, A) == first.order
    assert registered(lake) == [A]


@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_its_images_are_in_one_order_whoever_asks_next(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def kill() -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        at_step(lake, step, kill, patch)()
    second = ask(lake, B)
    helped = [item["image_id"] for unit in second.blockers for item in adopt(lake, unit).items]
    retried = ask(lake, A)

    assert sorted(listed(second) + helped) == sorted(WANTED)
    assert listed(retried) == helped
    assert bool(helped) == (step in ("registered", "published"))


def test_what_was_opened_and_finished_meanwhile_is_not_done_twice(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        ask(lake, B, SOME)
        work(lake, B)

    assert listed(at_step(lake, "looked", other, monkeypatch)()) == sorted(set(WANTED) - set(SOME))


def test_what_was_opened_and_fenced_meanwhile_is_listed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        ask(lake, B, SOME)
        fence_unit(lake, B, "outcomes")

    assert listed(at_step(lake, "looked", other, monkeypatch)()) == sorted(WANTED)


def test_nothing_is_left_when_others_took_all_of_it_meanwhile(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = at_step(lake, "list written", lambda: ask(lake, B), monkeypatch)()

    assert (claimed.order, claimed.blockers, registered(lake)) == (None, {B}, [B])


def test_compaction_of_the_register_changes_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from etl.lake.maintenance import compact

    ask(lake, digest("earlier"), {digest("image", 99): "shard 1"})

    def other() -> None:
        ask(lake, B, SOME)
        compact(lake, "orders")

    first = at_step(lake, "looked", other, monkeypatch)()
    assert (listed(first), first.blockers) == (sorted(set(WANTED) - set(SOME)), {B})


def test_a_registration_whose_answer_was_lost_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real = lake.table

    class Deaf:
        """A handle whose commits succeed and say that they failed."""

        def __init__(self, table: Any) -> None:
            self.table = table

        def __getattr__(self, name: str) -> Any:
            return getattr(self.table, name)

        def create_write_transaction(self, *given: Any, **options: Any) -> None:
            self.table.create_write_transaction(*given, **options)
            raise delta.CommitFailedError("timed out")

    monkeypatch.setattr(lake, "table", lambda name, *v: Deaf(real(name)) if name == "orders" else real(name, *v))

    assert listed(ask(lake, A)) == sorted(WANTED)
    monkeypatch.undo()
    assert registered(lake) == [A]


def test_others_that_are_always_faster_end_it_with_a_typed_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.settings = lake.settings.model_copy(update={"commit_deadline": 1e-6})
    monkeypatch.setattr(claims, "append_guarded", lambda *_, **__: False)

    with pytest.raises(CommitTimeoutError, match="others were faster 1 times"):
        ask(lake, A)
    assert registered(lake) == []


class TestALostList:
    """Somebody deleted files below ``units/``; the register still names them."""

    @pytest.fixture(autouse=True)
    def lost(self, lake: Lake) -> None:
        ask(lake, A)
        lake.store.delete(order_key(A))

    def test_is_a_typed_error_to_whoever_opened_it(self, lake: Lake) -> None:
        with pytest.raises(LostListError, match="the order was fenced"):
            ask(lake, A)

    def test_holds_nothing_back_from_others(self, lake: Lake) -> None:
        assert listed(ask(lake, B)) == sorted(WANTED)
        assert lake.table("outcomes").transaction_version(A) == 2


def test_a_list_is_a_table_of_images_and_inputs(lake: Lake) -> None:
    ask(lake, A)
    snapshot = Snapshot.take(lake)
    with snapshot.connect() as connection:
        ((unit, content),) = list(open_lists(snapshot, connection, "tagger", ["shard 1", "shard 9"]))

    assert (unit, content) == (A, pa.table({"image_id": sorted(WANTED), "input_digest": sorted(WANTED)}))
