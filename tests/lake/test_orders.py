"""Work orders: killed anywhere and started again, or run twice at once, the rows are there once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rows import rows

from etl.errors import DataError
from etl.lake import Lake, Snapshot
from etl.lake.commit import FencedError
from etl.lake.ids import digest
from etl.lake.maintenance import compact, data_files
from etl.lake.orders import Order, SliceRecord, commit_order, finish_slice, open_order, read_order, read_slice
from etl.lake.parts import add_action, table_key
from etl.lake.units import fence_unit
from etl.settings import Settings
from etl.storage import StorageError

KEY = "0123456789abcdef0123456789abcdef"
IMAGES = sorted(digest("image", n) for n in range(25))  # three slices of ten
ANNOTATOR = "annotator"


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


def produce(lake: Lake, number: int, items: Any) -> SliceRecord:
    images = [item["image_id"] for item in items]
    common = {"annotator_id": ANNOTATOR, "unit": KEY}
    tables = {
        "tags": rows("tags", *({"image_id": image, **common} for image in images)),
        "outcomes": rows("outcomes", *({"image_id": image, **common} for image in images)),
    }
    return finish_slice(lake, KEY, number, tables, {"ok": len(images)})


def work(lake: Lake) -> list[SliceRecord]:
    """What a stage process does with an order, from the beginning or from wherever another one was stopped."""
    order = open_order(lake, KEY, {"stage": "tag"}, lambda: [{"image_id": image} for image in IMAGES])
    for number, items in order.slices():
        if read_slice(lake, KEY, number) is None:
            produce(lake, number, items)
    return commit_order(lake, order, "outcomes")


def shown(lake: Lake) -> list[str]:
    """Images whose tags a reader sees, through the views; one entry per row."""
    with Snapshot.take(lake).connect() as connection:
        return [image for (image,) in connection.sql("select image_id from all_tags order by image_id").fetchall()]


def at_step(lake: Lake, step: str, then: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``then`` happen once, when the process reaches ``step``."""
    done: list[str] = []
    put, put_if_absent, commit = lake.store.put, lake.store.put_if_absent, lake.commit

    def reached(name: str) -> None:
        if name == step and not done:
            done.append(name)
            then()

    def watched_put(key: str, data: bytes) -> None:
        put(key, data)
        if key.startswith("tables/tags/parts"):
            reached("part written")

    def watched_put_if_absent(key: str, data: bytes) -> bool:
        if key == f"units/{KEY}.json":
            reached("before the order")
        written = put_if_absent(key, data)
        if key == f"units/{KEY}/00001.json":
            reached("slice recorded")
        return written

    def watched_commit(table: str, key: str, actions: Any) -> int:
        reached("all slices recorded" if table == "tags" else "between the tables")
        version = commit(table, key, actions)
        if table == "outcomes":
            reached("committed, not yet said so")
        return version

    monkeypatch.setattr(lake.store, "put", watched_put)
    monkeypatch.setattr(lake.store, "put_if_absent", watched_put_if_absent)
    monkeypatch.setattr(lake, "commit", watched_commit)


# Where a process is when something happens to it, and how many images a reader sees at that moment.
STEPS = {
    "before the order": 0,
    "part written": 0,
    "slice recorded": 0,
    "all slices recorded": 0,
    "between the tables": 0,
    "committed, not yet said so": len(IMAGES),
}


@pytest.mark.parametrize(("step", "visible"), STEPS.items(), ids=STEPS)
def test_killed_and_started_again(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, visible: int
) -> None:
    def kill() -> None:
        raise Killed

    at_step(lake, step, kill, monkeypatch)
    with pytest.raises(Killed):
        work(lake)
    assert len(shown(lake)) == visible
    work(Lake.open(lake.uri, settings))
    assert shown(lake) == IMAGES


@pytest.mark.parametrize("step", STEPS)
def test_a_twin_does_all_of_it_meanwhile(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    at_step(lake, step, lambda: work(Lake.open(lake.uri, settings)) and None, monkeypatch)
    records = work(lake)
    assert shown(lake) == IMAGES
    assert sum(record.counts["ok"] for record in records) == len(IMAGES)
    assert unnamed_parts(lake) == set(), "of two twins' parts of one slice only the named ones stay"


@pytest.mark.parametrize(("step", "visible"), STEPS.items(), ids=STEPS)
def test_killed_the_tables_compacted_and_vacuumed_and_started_again(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, visible: int
) -> None:
    """Whatever part was in a table when the process died is replaced, and its file is gone when it starts again."""

    def kill() -> None:
        raise Killed

    at_step(lake, step, kill, monkeypatch)
    with pytest.raises(Killed):
        work(lake)
    compact_and_forget(Lake.open(lake.uri, settings))
    assert len(shown(lake)) == visible
    work(Lake.open(lake.uri, settings))
    assert shown(lake) == IMAGES


@pytest.mark.parametrize("step", STEPS)
def test_the_tables_are_compacted_meanwhile(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    at_step(lake, step, lambda: compact_and_forget(Lake.open(lake.uri, settings)), monkeypatch)
    work(lake)
    assert shown(lake) == IMAGES


def compact_and_forget(lake: Lake) -> None:
    """Compact both tables and delete the replaced files at once, as vacuum does when their time is over."""
    for name in ("tags", "outcomes"):
        before = {one.path for one in data_files(lake.table(name))}
        compact(lake, name)
        for path in before - {one.path for one in data_files(lake.table(name))}:
            lake.store.delete(f"{table_key(name)}/{path}")


@pytest.mark.parametrize(("step", "visible"), STEPS.items(), ids=STEPS)
def test_fenced_meanwhile_nothing_of_it_ever_shows_unless_it_was_all_there(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, visible: int
) -> None:
    fenced: list[bool] = []
    at_step(lake, step, lambda: fenced.append(fence_unit(Lake.open(lake.uri, settings), KEY, "outcomes")), monkeypatch)
    if visible:
        work(lake)
    else:
        with pytest.raises(FencedError, match="the next plan takes its images again"):
            work(lake)
        with pytest.raises(FencedError):
            work(Lake.open(lake.uri, settings))
    assert fenced == [not visible]
    assert len(shown(lake)) == visible


def unnamed_parts(lake: Lake) -> set[str]:
    prefix = table_key("tags") + "/"
    written = {found.key.removeprefix(prefix) for found in lake.store.list(prefix + "parts/")}
    return written - set(lake.table("tags").get_add_actions(flatten=True)["path"].to_pylist())


_TWIN = """
import sys
from test_orders import work
from etl.lake import Lake
from etl.settings import Settings
lake = Lake.open(sys.argv[1], Settings(slice_size=10, commit_deadline=60))
print("ready", flush=True)
sys.stdin.readline()
work(lake)
"""


def test_two_processes_at_once(lake: Lake) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", _TWIN, lake.uri]
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as twin:
        assert twin.stdout is not None
        assert twin.stdout.readline() == "ready\n"
        twin.stdin.write("go\n")
        twin.stdin.flush()
        work(lake)
        twin.communicate(timeout=60)
    assert twin.returncode == 0
    assert shown(lake) == IMAGES
    assert lake.table("tags").version() == 1


def test_a_preempted_order_resumes_at_the_next_slice(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    order = open_order(lake, KEY, {}, lambda: [{"image_id": image} for image in IMAGES])
    (_, first), *_ = order.slices()
    before = produce(lake, 0, first)
    monkeypatch.setattr(lake.settings, "__dict__", {**lake.settings.__dict__, "slice_size": 3})
    records = work(lake)
    assert records[0] == before
    assert [record.counts["ok"] for record in records] == [10, 10, 5], "a new slice size does not move old slices"


def test_who_asks_first_fixes_the_list(lake: Lake) -> None:
    first = open_order(lake, KEY, {"stage": "tag"}, lambda: [{"image_id": IMAGES[0]}])
    second = open_order(lake, KEY, {"stage": "other"}, lambda: [{"image_id": IMAGES[1]}])
    assert second == first == read_order(lake, KEY)
    assert list(second.items) == [{"image_id": IMAGES[0]}]


def test_an_order_nobody_asked_for_is_none(lake: Lake) -> None:
    assert read_order(lake, KEY) is None
    assert read_slice(lake, KEY, 0) is None


def test_an_order_of_nothing_is_done_at_once(lake: Lake) -> None:
    order = open_order(lake, KEY, {}, list)
    assert list(order.slices()) == []
    assert commit_order(lake, order, "outcomes") == []
    assert lake.table("outcomes").version() == 0


def test_an_unfinished_order_is_not_committed(lake: Lake) -> None:
    order = Order(KEY, {}, [{"image_id": image} for image in IMAGES], 10)
    for number in (0, 2):
        produce(lake, number, order.items[:1])
    with pytest.raises(DataError, match="slice 1 of order"):
        commit_order(lake, order, "outcomes")
    assert lake.table("tags").version() == 0


def test_a_named_part_that_is_gone_stops_the_commit(lake: Lake) -> None:
    order = open_order(lake, KEY, {}, lambda: [{"image_id": IMAGES[0]}])
    record = produce(lake, 0, order.items)
    part = next(part for part in record.parts if part.table == "tags")
    lake.store.delete(f"{table_key('tags')}/{part.path}")
    with pytest.raises(StorageError, match="nothing there"):
        commit_order(lake, order, "outcomes")
    assert lake.table("tags").version() == 0


def test_a_record_whose_answer_was_lost_keeps_its_parts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may carry out a write, lose the answer, and tell the repeated one that the key is taken."""
    put_if_absent = lake.store.put_if_absent
    monkeypatch.setattr(lake.store, "put_if_absent", lambda key, data: put_if_absent(key, data) and False)
    record = produce(lake, 0, [{"image_id": IMAGES[0]}])
    for part in record.parts:
        add_action(lake.store, part)  # raises when the part is gone


def test_a_slice_that_breaks_a_rule_is_never_recorded(lake: Lake) -> None:
    wrong = rows("outcomes", {"image_id": IMAGES[0], "status": "perhaps"})
    with pytest.raises(Exception, match="status in"):
        finish_slice(lake, KEY, 0, {"outcomes": wrong}, {})
    assert read_slice(lake, KEY, 0) is None
    assert not list(lake.store.list("tables/outcomes/parts/"))


def test_the_record_is_readable_json(lake: Lake) -> None:
    produce(lake, 0, [{"image_id": IMAGES[0]}])
    record = json.loads(lake.store.read(f"units/{KEY}/00000.json"))
    assert record["counts"] == {"ok": 1}
    assert {part["table"] for part in record["parts"]} == {"tags", "outcomes"}
