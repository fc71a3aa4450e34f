"""Questions about every image of the lake, asked about a part of the images at a time.

The views choose the canonical copy and the visible outcome among all rows of an image. Over the whole lake that is a
sort of everything, which DuckDB spills only up to a point: ten million images did not fit into 512 MB. But no choice
ever looks at two images: so the same query over a part of the image ids says about those what it would have said, and
answers that count can be added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

FOCUS_SHARDS = 100
ROW_BYTES = 512  # of the memory limit, for each row of images and outcomes of a part
_TABLES = ("images", "sightings", "outcomes")  # those with rows per image that planning reads
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parts(connection: duckdb.DuckDBPyConnection, shards: Sequence[str] | None = None) -> Iterator[int]:
    """Show a connection one part of the images after another; every image is in exactly one.

    For few shards there is one part: all images with a copy in them, and the connection goes on showing only these.
    Else images are parted by the beginning of their id, as many times as memory demands, and all of them show again
    afterwards.

    Args:
        connection: A connection of a snapshot that shows all images.
        shards: The shards in question; None for all.

    Returns:
        The number of each part; the query of that part is to be run before the next one is asked for.
    """
    # To keep the order of rows DuckDB buffers each file's: a table made of thousands of files ran out of memory. Only
    # here: a user's SQL with a limit and no order should not answer differently each time.
    connection.execute("set preserve_insertion_order=false")
    if shards is not None and len(shards) <= FOCUS_SHARDS:
        _focus(connection, shards)
        yield 0
        return
    number = _number(connection)
    if number == 1:
        yield 0
        return
    _rename(connection)
    for part in range(number):
        low, high = (f"{bound * 65536 // number:04x}" for bound in (part, part + 1))
        _show(connection, f"image_id >= '{low}'" + (f" and image_id < '{high}'" if part + 1 < number else ""))
        yield part
    _show(connection, "true")


def _focus(connection: duckdb.DuckDBPyConnection, shards: Sequence[str]) -> None:
    connection.execute(
        "create temp table focus as "
        "select distinct image_id from raw.images where shard_id in (select unnest(?::varchar[]))",
        [list(shards)],
    )
    _rename(connection)
    _show(connection, "image_id in (select image_id from temp.focus)")


def _number(connection: duckdb.DuckDBPyConnection) -> int:
    rows, limit = connection.execute(
        "select (select count(*) from raw.images) + (select count(*) from raw.outcomes), "
        "current_setting('memory_limit')"
    ).fetchall()[0]
    amount, unit = str(limit).split()
    return min(65536, 1 + int(rows * ROW_BYTES / (float(amount) * _UNITS[unit])))


def _rename(connection: duckdb.DuckDBPyConnection) -> None:
    if connection.execute(
        "select 1 from duckdb_views() where schema_name = 'raw' and view_name = 'all_images'"
    ).fetchone():
        return  # it was shown parts before
    for table in _TABLES:
        connection.execute(f"alter view raw.{table} rename to all_{table}")


def _show(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    for table in _TABLES:
        shown = f"select * from raw.all_{table} where {condition}"  # noqa: S608 - names and digits of ours
        connection.execute(f"create or replace view raw.{table} as {shown}")
