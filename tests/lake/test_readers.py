"""Readers beside everything else that goes on in a lake, and the tables in other Delta readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import QueryBuilder
from handmade import Handmade, Picture, Thing, annotator_id
from rows import row

from etl.lake import Lake, Snapshot, maintenance, takedown
from etl.lake.ids import digest, digest_bytes
from etl.lake.schemas import TABLES
from etl.settings import Settings

THINGS = (Thing("dog", (1, 1, 5, 5), "a dog"), Thing("box", (6, 6, 9, 9), "a box"))
COMPACTED = ("tags", "embeddings", "orders")
# What a unit shows of an image must be all of it; what a shard or an order shows must be all images but those gone.
TORN = """
with made as (select 'tag' as stage, image_id, unit, count(*) as n from all_tags group by all
    union all select 'ground', image_id, unit, count(*) from all_instances group by all
    union all select 'caption', image_id, unit, count(*) from all_captions group by all),
wanted as (from world where image_id not in (from taken_down)),
begun as (select distinct stage, shard_id from all_outcomes)
select 'rows' as what, stage, image_id from all_outcomes left join made using (stage, image_id, unit)
    where coalesce(n, 0) <> case stage when 'tag' then 1 when 'ground' then 2 else 3 end
union all select 'outcomes', stage, image_id from wanted join begun using (shard_id)
    anti join all_outcomes using (stage, image_id)
union all select 'images', '', image_id from wanted semi join images using (shard_id) anti join images using (image_id)
union all select 'sightings', '', image_id from images anti join sightings using (image_id)
union all select 'gone', '', image_id from images where image_id in (from taken_down)"""


class World:
    """One writes shards of three pictures, others compact, vacuum, drop an old annotator and take pictures down."""

    def __init__(self, lake: Lake, units: int) -> None:
        self.lake, self.finished, self.looks = lake, 0, 0
        self.content = [
            [Picture((20, 20), THINGS, seed=3 * number + n, format="PNG") for n in range(3)] for number in range(units)
        ]
        self.ids = [[digest_bytes(picture.encoded()) for picture in shard] for shard in self.content]
        rows = [(digest("shard", "hand", number), one) for number, shard in enumerate(self.ids) for one in shard]
        self.known = pa.table({"shard_id": [shard for shard, _ in rows], "image_id": [one for _, one in rows]})

    def write(self) -> None:
        hand = Handmade(self.lake)
        for number, pictures in enumerate(self.content):
            hand.annotate(hand.add(*pictures), *pictures, embed=False)
            unit = digest("by an old tagger", number)
            for name in ("tags", "outcomes"):
                common = {"annotator_id": unit, "unit": unit, "shard_id": digest("shard", "hand", number)}
                self.lake.append(name, [row(name, image_id=one, **common) for one in self.ids[number]], unit)
            self.finished += 1

    def maintain(self) -> None:
        for name in ("images", "sightings", "downloads", "tags", "instances", "captions", "outcomes"):
            maintenance.compact(self.lake, name)
            maintenance.vacuum(self.lake, name)
        maintenance.collect(self.lake, [digest("by an old tagger", number) for number in range(self.finished)])

    def take_down(self) -> None:
        for ids in self.ids[: self.finished]:
            takedown.add(self.lake, takedown.Request.of([takedown.target("image_id", ids[0])], "asked"))
        takedown.purge(self.lake)

    def read(self) -> None:
        finished = self.finished
        with Snapshot.take(self.lake).connect() as connection:
            connection.register("world", self.known)
            assert connection.execute(TORN).fetchall() == []
            (shown,) = connection.execute(
                "select count(distinct shard_id) from outcomes where stage = 'ground'"
            ).fetchall()
            assert shown[0] >= finished, "what was committed before is there"
        self.looks += 1

    def run(self, readers: int, most: int) -> None:
        """Everything at once, until all is written; the others work at most so often meanwhile, and once after it."""
        done = Event()
        with ThreadPoolExecutor(readers + 3) as pool:
            others = [
                pool.submit(_repeat, work, done, most)
                for work in (self.maintain, self.take_down, *[self.read] * readers)
            ]
            with _ended(done, others):
                self.write()


def _repeat(work: Callable[[], None], done: Event, most: int) -> None:
    for _ in range(most):
        if done.is_set():
            break
        work()
    done.wait()
    work()


@contextmanager
def _ended(done: Event, others: list[Future[None]]) -> Iterator[None]:
    try:
        yield
    finally:
        done.set()
    for one in others:
        one.result()


@pytest.mark.parametrize(
    ("units", "readers", "most"),
    [pytest.param(2, 1, 4, id="short"), pytest.param(40, 3, 10_000, id="long", marks=pytest.mark.soak)],
)
@pytest.mark.timeout(1800)
def test_readers_see_whole_units_beside_writers_compaction_vacuum_gc_and_takedowns(
    lake: Lake, units: int, readers: int, most: int
) -> None:
    world = World(lake, units)
    world.run(readers, most)
    assert world.looks > readers
    final = lake.sql("select count(*) as images, (select count(*) from instances) as instances from images")
    assert final.to_pylist() == [{"images": 2 * units, "instances": 4 * units}]
    assert lake.sql("select distinct annotator_id from all_tags")["annotator_id"].to_pylist() == [annotator_id("tag")]


def _datafusion(lake: Lake, name: str) -> pa.Table:
    asked = QueryBuilder().register("t", lake.table(name)).execute("select * from t")
    return pa.RecordBatchReader.from_stream(asked).read_all()


READERS: dict[str, Callable[[Lake, str], pa.Table]] = {
    "polars": lambda lake, name: pl.scan_delta(lake.table_uri(name)).collect().to_arrow(),
    "pyarrow dataset": lambda lake, name: lake.table(name).to_pyarrow_dataset().to_table(),
    "datafusion": _datafusion,
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two rows in every table, and in some a compaction and a file after it."""
    lake = Lake.create(str(tmp_path_factory.mktemp("filled") / "lake"), Settings())
    for name in TABLES:
        lake.append(name, [row(name), row(name)], "first")
    for name in COMPACTED:
        lake.append(name, [row(name), row(name)], "second")
        maintenance.compact(lake, name)
        lake.append(name, [row(name), row(name)], "third")
    return lake


@pytest.mark.parametrize("name", TABLES)
def test_other_delta_readers_open_a_table_unchanged(filled: Lake, name: str) -> None:
    expected = [_plain(one) for one in [row(name)] * (6 if name in COMPACTED else 2)]
    for reader, read in READERS.items():
        found = read(filled, name)
        assert [_plain({c: one[c] for c in expected[0]}) for one in found.to_pylist()] == expected, reader


@pytest.mark.parametrize("name", TABLES)
def test_a_table_asks_nothing_of_its_readers(filled: Lake, name: str) -> None:
    """Reader 1 and writer 2 are what every Delta engine has had from the start, Spark's first ones too."""
    protocol = filled.table(name).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    assert not protocol.reader_features
    assert not protocol.writer_features


def test_a_reader_that_prunes_by_statistics_finds_every_row(filled: Lake) -> None:
    found = pl.scan_delta(filled.table_uri("tags")).filter(pl.col("image_id") == "0" * 32).collect()
    assert found.height == 6
    dataset = filled.table("tags").to_pyarrow_table(filters=[("image_id", "=", "0" * 32)])
    assert dataset.num_rows == 6


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    """A row without what readers spell differently: the time zone's name."""
    return {name: value.timestamp() if hasattr(value, "timestamp") else value for name, value in one.items()}
