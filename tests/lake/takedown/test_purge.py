"""A takedown leaves nothing of a picture and everything of the others, whatever is killed or runs beside it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from forgetting import fill, pictures, rows_without, texts, traces
from handmade import Handmade, annotator_id, copy_of
from rows import row

from etl.lake import Lake, Snapshot, maintenance
from etl.lake.ids import digest, url_digest
from etl.lake.orders import commit_order, finish_slice, open_order
from etl.lake.schemas import TABLES
from etl.lake.takedown import PURGED, REQUESTED, REWRITTEN, Request, add, purge, read_takedowns, survey, target
from etl.settings import Settings
from etl.storage import LocalStore

DATA, WORDS = pictures(0)[1].encoded(), texts(0, 1)


def lake_that_waits(lake: Lake, hours: float) -> Lake:
    """The same lake with other purge hours."""
    return Lake.open(lake.uri, lake.settings.model_copy(update={"purge_hours": hours}))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Handmade:
    """Two annotated shards."""
    root = tmp_path_factory.mktemp("filled")
    return fill(Lake.create(str(root / "lake"), Settings(scratch=root / "scratch")))


@pytest.fixture
def hand(filled: Handmade, tmp_path: Path, settings: Settings) -> Handmade:
    """Two annotated shards in a lake that purges at once."""
    shutil.copytree(filled.lake.uri, tmp_path / "lake")
    lake = Lake.open(str(tmp_path / "lake"), settings.model_copy(update={"purge_hours": 0}))
    return Handmade(lake, list(filled.ids), filled.shards)


def asked(hand: Handmade, *more: str) -> Request:
    return Request.of([target("image_id", one) for one in (hand.ids[1], *more)], "asked")


def pin(lake: Lake) -> dict[str, int]:
    """The present versions, as a built manifest's lock names them."""
    versions = dict(Snapshot.take(lake).versions)
    lock = f'{{"tables": {str(versions).replace(chr(39), chr(34))}}}'
    given = {"name": "m", "version": "v", "lock": lock, "path": "/nowhere"}
    lake.append("manifests", [row("manifests", **given)], digest("pin", sorted(versions.items())))
    return versions


def state(lake: Lake) -> list[str]:
    return [one.state for one in read_takedowns(lake)]


def test_nothing_of_it_is_left_and_every_version_keeps_all_else(hand: Handmade) -> None:
    lake, image = hand.lake, hand.ids[1]
    version = pin(lake)
    for name in ("captions", "images", "embeddings"):
        maintenance.compact(lake, name)
    kept = rows_without(lake, image, WORDS, versions=version)
    present = rows_without(lake, image, WORDS)
    places = lake.table("images").to_pyarrow_table().to_pylist()

    nobody = [f"{n:032x}" for n in range(10_000)]
    added = add(lake, asked(hand, *nobody))
    assert (added.images, added.copies, len(added.unknown)) == (1, 1, 10_000)
    purge(lake)

    assert state(lake) == [PURGED]
    assert traces(lake, image, DATA, WORDS) == []
    assert rows_without(lake, image, WORDS) == present
    assert rows_without(lake, image, WORDS, versions=version) == kept
    with Snapshot.take(lake).connect() as connection:
        rewritten = Counter(connection.sql("select table_name || old_path from raw.rewrites").fetchall())
        events = connection.sql("select event from raw.takedown_events").fetchall()
        assert connection.sql("select count(*) from raw.embeddings where text = 'a red ball'").fetchone() == (2,)
        url = "select status, error_class, count(*) from raw.downloads group by all order by all"
        assert connection.sql(url).fetchall() == [("failed", "taken_down", 1), ("ok", None, 5)]
    assert set(rewritten.values()) == {1}, "one rewrite per touched file, however many ids"
    assert sorted(events) == [("purged",), ("requested",), ("rewritten",)]
    for one in places:  # no offset moved
        data = lake.store.read_range(one["tar"], one["offset"], one["length"])
        assert (data == bytes(one["length"])) is (one["image_id"] == image)


def test_looking_first_tells_everything_and_changes_nothing(hand: Handmade) -> None:
    lake = hand.lake
    before = {one.key: one.modified for one in lake.store.list("")}
    found = survey(lake, asked(hand, "f" * 32))
    assert {one.key: one.modified for one in lake.store.list("")} == before
    assert {one.table: (one.rows, one.files, one.older_files) for one in found.tables} == {
        **dict.fromkeys(("images", "sightings", "downloads", "tags", "embeddings"), (1, 1, 0)),
        **{"instances": (2, 1, 0), "captions": (3, 1, 0), "outcomes": (4, 4, 0)},
    }
    assert list(found.tars.values()) == [len(DATA)]
    assert [one.value for one in found.found.unknown] == ["f" * 32]


class KilledError(BaseException):
    """Stands for SIGKILL: nobody catches it."""


WRITES = ((LocalStore, "put"), (LocalStore, "put_if_absent"), (LocalStore, "publish_file"), (LocalStore, "erase"))
WRITES += ((LocalStore, "delete"), (DeltaTable, "create_write_transaction"))


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Whatever runs inside dies before its ``step``-th write to the store or a log."""
    made = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*given: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if made >= step:
                raise KilledError
            return real(*given, **options)

        return write

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in WRITES:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


def killed_again_and_again(hand: Handmade, steps: Iterable[int]) -> int:
    """Passes that die at one step each, then one that lives; nothing is left, nothing else is lost.

    Returns:
        How many passes died.
    """
    lake, image = hand.lake, hand.ids[1]
    version = pin(lake)
    for name in ("captions", "outcomes", "images"):
        maintenance.compact(lake, name)
    present, kept = rows_without(lake, image, WORDS), rows_without(lake, image, WORDS, versions=version)
    add(lake, asked(hand))
    died = 0
    for step in steps:
        try:
            with killed_at(step):
                purge(lake)
        except KilledError:
            died += 1
    purge(lake)
    assert state(lake) == [PURGED]
    assert traces(lake, image, DATA, WORDS) == []
    assert rows_without(lake, image, WORDS) == present
    assert rows_without(lake, image, WORDS, versions=version) == kept
    events = Counter(one["event"] for one in lake.table("takedown_events").to_pyarrow_table().to_pylist())
    assert events == dict.fromkeys((REQUESTED, REWRITTEN, PURGED), 1)
    return died


def test_killed_at_some_steps_the_next_pass_goes_on(hand: Handmade) -> None:
    assert killed_again_and_again(hand, (13, 28)) == 2


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_any_step_the_next_pass_goes_on(hand: Handmade, tmp_path: Path) -> None:
    step, died = 0, 1
    while died:
        step += 1
        lake = Lake.create(str(tmp_path / "copy"), hand.lake.settings)
        died = killed_again_and_again(copy_of(hand, lake), [step])
        shutil.rmtree(lake.uri)
    assert step > 30


def test_twins_appenders_and_compaction_beside_it_lose_nothing(hand: Handmade) -> None:
    lake, image = hand.lake, hand.ids[1]
    add(lake, asked(hand))
    stop, errors, appended = threading.Event(), list[BaseException](), list[str]()

    def append() -> Iterator[None]:
        number = len(appended)
        shard = digest("shard", "hand", number % 2)
        given = {"image_id": digest("late", number), "shard_id": shard, "unit": digest("late unit", number)}
        lake.append("tags", [row("tags", **given, annotator_id=annotator_id("tag"))], given["unit"])
        appended.append(given["image_id"])
        yield

    def loop(work: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                work()
                time.sleep(0.05)
        except BaseException as error:
            errors.append(error)

    beside = [threading.Thread(target=loop, args=(lambda: list(append()),))]
    beside += [threading.Thread(target=loop, args=(lambda: maintenance.compact(lake, "tags"),))]
    twins = [threading.Thread(target=purge, args=(lake_that_waits(lake, 24),)) for _ in range(2)]
    for thread in (*beside, *twins):
        thread.start()
    for thread in twins:
        thread.join()
    stop.set()
    for thread in beside:
        thread.join()
    purge(lake)
    assert errors == []
    tags = lake.table("tags").to_pyarrow_table()["image_id"].to_pylist()
    assert sorted(tags) == sorted([*(one for one in hand.ids if one != image), *appended])
    assert state(lake) == [PURGED]
    assert traces(lake, image, DATA, WORDS) == []


def open_late(hand: Handmade, words: str, *, finished: bool = True) -> Any:
    """An order for the picture to take down, opened long before; its slice is finished but not committed."""
    lake, key = hand.lake, digest("late order", words)
    order = open_order(lake, key, {"stage": "tag"}, lambda: [{}])
    os.utime(Path(lake.uri) / f"units/{key}.json", (time.time() - 3600,) * 2)
    common = {"image_id": hand.ids[1], "shard_id": digest("shard", "hand", 0), "unit": key}
    rows = {
        "captions": [row("captions", **common, annotator_id=annotator_id("caption"), caption=words)],
        "outcomes": [row("outcomes", **common, annotator_id=annotator_id("caption"))],
    }
    tables = {name: pa.Table.from_pylist(given, TABLES[name].schema) for name, given in rows.items()}
    if finished:
        finish_slice(lake, key, 0, tables, {})
    return order


def test_it_waits_for_orders_opened_before_then_for_the_purge_hours(hand: Handmade) -> None:
    lake, patient = hand.lake, lake_that_waits(hand.lake, 24)
    old = [uri for name in ("images", "captions") for uri in lake.table(name).file_uris()]
    order, later = open_late(hand, "a late caption"), open_late(hand, "later", finished=False)
    os.utime(Path(lake.uri) / f"units/{later.key}.json", (time.time() + 3600 * 25,) * 2)  # not waited for
    add(lake, asked(hand))

    (progress,) = purge(patient)
    assert (progress.state, progress.orders) == (REQUESTED, [order.key])
    assert list(lake.store.list(f"tables/captions/parts/{order.key}/")), "its parts are not touched"

    commit_order(lake, order, last="outcomes")
    (progress,) = purge(patient)
    assert (progress.state, progress.orders) == (REWRITTEN, [])
    assert progress.rows == {"captions": 1, "outcomes": 1}
    assert progress.until is not None
    assert 23.9 < (progress.until - datetime.now(UTC)).total_seconds() / 3600 < 24
    assert all(Path(uri).exists() for uri in old)

    (progress,) = purge(lake)  # as if a day had passed
    assert (progress.state, progress.rows.total()) == (PURGED, 0)
    assert traces(lake, hand.ids[1], DATA, [*WORDS, "a late caption"]) == []


@pytest.mark.parametrize("kind", ["url", "image_id"])
def test_it_names_pictures_by_url_and_by_id_and_hides_them_at_once(hand: Handmade, kind: str) -> None:
    lake, image, url = hand.lake, hand.ids[1], "http://example.test/hand/0/1"
    request = Request.of([target(kind, url if kind == "url" else image)], "asked")
    added = add(lake, request)
    assert (added.images, added.copies, added.unknown) == (1, 1, ())
    (found,) = read_takedowns(lake)
    assert found.values("image_id") == found.values("source_sha256") == {image}
    assert found.values("url_sha256") == ({url_digest(url)} if kind == "url" else set())
    assert image not in Snapshot.take(lake).sql("select image_id from images")["image_id"].to_pylist()

    assert add(lake, request) == added  # the same again adds nothing
    assert lake.table("takedown_events").to_pyarrow_table().num_rows == 1
    assert lake.table("takedowns").to_pyarrow_table().num_rows == len(found.tombstones)


@pytest.mark.soak
def test_a_lake_on_s3_forgets_too(s3_uri: str, settings: Settings) -> None:
    lake = Lake.create(s3_uri, settings.model_copy(update={"purge_hours": 0}))
    hand = Handmade(lake)
    hand.add(*pictures(0, 2))
    add(lake, asked(hand))
    purge(lake)
    assert state(lake) == [PURGED]
    assert all(DATA not in lake.store.read(one.key) for one in lake.store.list("raw/"))
    assert lake.table("images").to_pyarrow_table()["image_id"].to_pylist() == [hand.ids[0]]
