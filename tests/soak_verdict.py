"""What must hold of a lake: for every reader at any time, and once all is quiet."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import pyarrow as pa
from soak_world import World

# Every row of the four tables, whoever wrote it: ``token`` is the attempt's own.
_GOT = """
    select 'tags' as name, unit, image_id, '' as key, tags[1].tag as token from {tags}
    union all select 'instances', unit, image_id, instance_id, label from {instances}
    union all select 'captions', unit, image_id, coalesce(instance_id, ''), caption from {captions}
    union all select 'outcomes', unit, image_id, '', value_digest from {outcomes} where status <> 'failed'"""
_RAW = _GOT.format(**{name: f"raw.{name}" for name in ("tags", "instances", "captions", "outcomes")})
_SEEN = _GOT.format(**{name: f"all_{name}" for name in ("tags", "instances", "captions", "outcomes")})

# A unit that outcomes name has an outcome for every picture of its list, but for those taken down since.
_HALF = """
    with units as (select distinct unit, shard_id from raw.outcomes),
    lists as (select distinct unit, image_id from units join world using (shard_id) where image_id not in (from gone))
    select unit, image_id from lists anti join raw.outcomes o using (unit, image_id)"""
# What a visible outcome promises is there, once; nothing else is.
_UNEQUAL = """
    with promised as (
        select w.name, o.unit, w.image_id, w.key from all_outcomes o join world w using (shard_id, image_id)
        where o.status <> 'failed'),
    got as (select name, unit, image_id, key, count(*) as n from seen group by all)
    select name, unit, image_id, key, coalesce(n, 0) as n from promised full join got using (name, unit, image_id, key)
    where n is distinct from 1 or promised.unit is null"""
_MIXED = """
    select unit, slice, list(distinct token) from {rows} r join (select distinct image_id, slice from world) w
    using (image_id) group by unit, slice having count(distinct token) > 1"""
_SHOWN = """
    select name, image_id from (select name, image_id from seen union all select 'images', image_id from images
        union all select 'sightings', image_id from sightings) where image_id in (from gone)"""
_TWICE = "select unit, image_id from raw.outcomes group by all having count(*) > 1"

# Once all is quiet: rows as of a run without faults over the units that were committed.
_DIFFERENT = """
    with expected as (select w.name, u.unit, w.image_id, w.key from units u join world w using (shard_id)
        where u.committed and w.image_id not in (from gone)),
    got as (select name, unit, image_id, key, count(*) as n from found group by all)
    select name, unit, image_id, key, coalesce(n, 0) as n from expected full join got using (name, unit, image_id, key)
    where n is distinct from 1 or expected.unit is null"""


def wrong_to_a_reader(connection: duckdb.DuckDBPyConnection, world: World) -> list[str]:
    """What a reader may never see, whatever runs beside it; empty when all is well."""
    _set_up(connection, world, "seen", _SEEN)
    return _found(
        connection,
        {
            "half a unit is in outcomes": _HALF,
            "a visible outcome and its rows differ": _UNEQUAL,
            "rows of one slice come from several attempts": _MIXED.format(rows="seen"),
            "a picture shows that was taken down": _SHOWN,
            "an outcome is there twice": _TWICE,
        },
    )


def wrong_in_the_end(
    connection: duckdb.DuckDBPyConnection, world: World, committed: Collection[int], fenced: Collection[int]
) -> list[str]:
    """How the physical rows differ from those of a run without faults; empty when they do not.

    Args:
        connection: Reads the lake once nothing works on it any more.
        world: What was worked on.
        committed: Numbers of the orders that were committed.
        fenced: Numbers of the orders that were declared dead.
    """
    numbers = [*committed, *fenced]
    units = {
        "unit": [world.key(n) for n in numbers],
        "shard_id": [world.shard_id(world.shard_of(n)) for n in numbers],
        "committed": [True] * len(committed) + [False] * len(fenced),
    }
    _set_up(connection, world, "found", _RAW)
    connection.register("units", pa.table(units, schema=_UNITS))
    return _found(
        connection,
        {
            "rows are missing, doubled or surplus": _DIFFERENT,
            "rows of one slice come from several attempts": _MIXED.format(rows="found"),
            "an outcome is there twice": _TWICE,
        },
    )


_UNITS = pa.schema([("unit", pa.string()), ("shard_id", pa.string()), ("committed", pa.bool_())])


def count_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Physical rows per table of the orders."""
    tables = " union all ".join(
        f"select '{name}', count(*) from raw.{name}" for name in ("tags", "instances", "captions", "outcomes")
    )
    return dict(connection.sql(tables).fetchall())


def _set_up(connection: duckdb.DuckDBPyConnection, world: World, name: str, query: str) -> None:
    connection.register("world", world.expected())
    # In order, a table made from thousands of small files takes more than the memory limit: a buffer per file.
    connection.execute("set preserve_insertion_order=false")
    connection.execute("create or replace temp table gone as select image_id from taken_down")
    connection.execute(f"create temp table {name} as {query}")


def _found(connection: duckdb.DuckDBPyConnection, questions: dict[str, str]) -> list[str]:
    wrong = []
    for what, query in questions.items():
        if rows := connection.sql(f"select * from ({query}) limit 5").fetchall():
            total = connection.sql(f"select count(*) from ({query})").fetchone()
            wrong.append(f"{what} ({total[0] if total else 0} times), such as {rows}")
    return wrong
