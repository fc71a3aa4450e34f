"""Which pictures of the lake a file speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.errors import DataError, UnknownNameError
from etl.lake.ids import url_digest
from etl.lake.parting import parts
from etl.truth.model import Truth, TruthImage

if TYPE_CHECKING:
    import duckdb

_NAMED = """
    select s.image_id, t.number from truth t join sightings s using (image_id) where s.source = $source
    union select s.image_id, t.number from truth t join sightings s using (url)
        where t.image_id is null and s.source = $source"""
_FOUND = f"""
    select i.image_id, i.shard_id, i.width, i.height, i.image_id as input_digest,
        list(number order by number) as truth
    from ({_NAMED}) join images i using (image_id) group by all"""  # noqa: S608 - no text but ours
_OF_SOURCE = """
    select count(*) from images where image_id in (select image_id from sightings where source = $source)"""
_COUNTS = """
    with found as (select distinct unnest(truth) as number from stale),
    gone as (
        select number from truth where number not in (select number from found) and (
            coalesce(image_id in (select image_id from taken_down), false)
            or coalesce(url_sha256 in (select value from raw.takedowns where kind = 'url_sha256'), false)
            or coalesce(url in (
                select url from raw.sightings where source = $source and image_id in (select image_id from taken_down)
            ), false)))
    select (select count(*) from found), (select count(*) from gone), (select count(*) from stale)"""


@dataclass(frozen=True)
class Matches:
    """Where the images of a file are; ``found``, ``taken_down`` and ``absent`` add up to them.

    Attributes:
        found: Images of the file that the lake has.
        taken_down: Images of the file that were taken down.
        absent: Images of the file that the lake does not have under this source.
        pictures: Distinct pictures of the lake that ``found`` are.
        without_truth: Pictures of the source that the file does not speak of.
    """

    found: int
    taken_down: int
    absent: int
    pictures: int
    without_truth: int


def find_pictures(connection: duckdb.DuckDBPyConnection, truth: Truth, source: str) -> Matches:
    """Make the temporary table ``stale`` of every picture of a source that a file speaks of.

    Its rows are items of orders: the picture, its shard and size, ``input_digest`` (itself), and ``truth``, the numbers
    of the file's images that it is.

    Args:
        connection: A connection of a snapshot.
        truth: What the file says.
        source: The source.

    Raises:
        UnknownNameError: There is no such source.
    """
    sources = [row[0] for row in connection.execute("select distinct source from raw.shards").fetchall()]
    if source not in sources:
        raise UnknownNameError("source", source, sources, remedy="ingest it first: groundlake ingest run")
    shards = connection.execute("select distinct shard_id from raw.shards where source = ?", [source]).fetchall()
    connection.register("truth", _table(truth.images))
    start, pictures = "create temp table stale as", 0
    for _ in parts(connection, [row[0] for row in shards]):
        connection.execute(f"{start} {_FOUND}", {"source": source})
        pictures += connection.execute(_OF_SOURCE, {"source": source}).fetchall()[0][0]
        start = "insert into stale"
    found, gone, matched = connection.execute(_COUNTS, {"source": source}).fetchall()[0]
    return Matches(found, gone, len(truth.images) - found - gone, matched, pictures - matched)


def check_found(connection: duckdb.DuckDBPyConnection, matches: Matches, truth: Truth, source: str) -> None:
    """Refuse a file that has nothing to do with a source.

    Args:
        connection: The one that ``find_pictures`` was given.
        matches: Its answer.
        truth: What the file says.
        source: The source.

    Raises:
        DataError: No image of the file is, or was, in the lake.
    """
    if matches.found or matches.taken_down:
        return
    ours = connection.execute("select min(url) from raw.sightings where source = ?", [source]).fetchall()[0][0]
    mine = next((one.image_id or one.url for one in truth.images if one.image_id or one.url), None)
    example = f"such as {mine}" if mine else "none has a coco_url, or a file_name that is a url"
    raise DataError(
        f"none of the {len(truth.images)} images of the file is a picture of source {source!r}: {example}; "
        f"of the source: {ours or 'no picture yet'}",
        remedy="ingest the urls that the file names; coco_url has to be spelled as it was in the list of urls",
    )


def _table(images: Sequence[TruthImage]) -> pa.Table:
    return pa.table(
        {
            "number": pa.array([one.number for one in images], pa.int64()),
            "url": pa.array([one.url for one in images], pa.string()),
            "url_sha256": pa.array([url_digest(one.url) if one.url else None for one in images], pa.string()),
            "image_id": pa.array([one.image_id for one in images], pa.string()),
        }
    )
