"""Rows: no id is null, nothing is there twice, and what must add up adds up."""

from __future__ import annotations

from collections.abc import Iterator

from etl.lake.check.bench import Bench
from etl.lake.check.findings import ERROR, Finding, Progress, Tally
from etl.lake.check.rules import Rule, UnitRule, ask
from etl.lake.ledger import read_ledger
from etl.lake.schemas import TABLES

_IDS = ("image_id", "shard_id", "annotator_id", "unit", "instance_id", "text_sha256", "url_sha256", "takedown_id")
# What a row is one of. Embeddings are not here: two slices of an order may hold the same text.
_KEYS = {
    "shards": "shard_id, attempt",
    "downloads": "unit, url_sha256",
    "images": 'unit, tar, "offset"',
    "sightings": "unit, url",
    "tags": "image_id, annotator_id, unit",
    "instances": "image_id, instance_id, unit",
    "captions": "image_id, instance_id, unit",
    "outcomes": "image_id, annotator_id, unit",
    "orders": "unit",
}
_STAGE_TABLES = {"tag": "tags", "ground": "instances", "caption": "captions"}
_REDO = "groundlake annotate run --force makes them anew; or restore the lake from a backup"
_TWICE = "restore the lake from a backup; something other than groundlake wrote to this table"


def check_rows(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Null ids, duplicates, and counts that do not add up."""
    yield from ask(bench, [*_nulls(), *_twice(), *_DOWNLOADS, *_ORDERS, *_without_rows()], progress)
    if bench.has("outcomes"):
        yield from _ledger(bench)


def _nulls() -> Iterator[Rule]:
    for name, table in TABLES.items():
        ids = [column.name for column in table.columns if column.name in _IDS and not column.nullable]
        if ids:
            broken = " or ".join(f"{column} is null" for column in ids)
            offenders = f"select 'a row without {' or '.join(ids)}' as example from raw.{name} where {broken}"  # noqa: S608
            yield Rule("rows.null_id", (name,), offenders, f"table {name}: rows without an id", _TWICE)


def _twice() -> Iterator[Rule]:
    for name, key in _KEYS.items():
        shown = " || ' ' || ".join(f"coalesce({column.strip()}::varchar, '-')" for column in key.split(","))
        offenders = f"select {shown} as example from raw.{name} group by {key} having count(*) > 1"  # noqa: S608
        plain = key.replace('"', "")
        yield Rule("rows.twice", (name,), offenders, f"table {name}: more than one row of one ({plain})", _TWICE)


def _without_rows() -> Iterator[Rule]:
    # Only what readers see: what a promotion superseded may be collected at any time.
    for stage, table in _STAGE_TABLES.items():
        offenders = f"""select o.image_id || ' of unit ' || o.unit as example
            from outcomes o anti join raw.{table} t using (image_id, annotator_id, unit)
            where o.stage = '{stage}' and o.status = 'ok'"""  # noqa: S608
        message = f"outcomes of stage {stage} that are ok, but have no row in table {table}"
        yield Rule("rows.lost", ("outcomes", table), offenders, message, _REDO)


# A takedown removes rows of downloads: fewer are right as long as takedowns removed at least as many.
_FEWER = """
    select count(*)::varchar || ' rows fewer' as example
    from (select s.shard_id, s.attempt, any_value(s.n_urls) as listed, count(d.unit) as settled
        from raw.shards s join raw.downloads d using (shard_id, attempt) group by all)
    where settled < listed
    having sum(listed - settled) > (
        select coalesce(sum(rows_removed), 0) from raw.rewrites where table_name = 'downloads')"""
_MORE = """
    select s.shard_id || ' attempt ' || s.attempt as example
    from raw.shards s join raw.downloads d using (shard_id, attempt)
    group by s.shard_id, s.attempt having count(*) > any_value(s.n_urls)"""
_NO_PICTURE = """
    select d.image_id || ' of ' || d.url as example
    from raw.downloads d anti join raw.images i using (unit, image_id)
    where d.status = 'ok' and d.image_id is not null and d.image_id not in (select image_id from gone)"""
_NO_IMAGE_ID = "select url as example from raw.downloads where status = 'ok' and image_id is null"
_NO_SIGHTING = """
    select d.image_id || ' of ' || d.url as example
    from raw.downloads d anti join raw.sightings s using (unit, url)
    where d.status = 'ok' and d.image_id is not null and d.image_id not in (select image_id from gone)"""
_AGAIN = "download the shard again: the DAG ingest, with its id in the field Shards; or restore the lake from a backup"
_DOWNLOADS = (
    Rule(
        "rows.urls",
        ("downloads", "shards"),
        _MORE,
        "shards with more settled urls than they list",
        _TWICE,
    ),
    Rule("rows.urls", ("downloads", "shards"), _FEWER, "shards with fewer settled urls than they list", _AGAIN),
    Rule("rows.picture", ("downloads", "images"), _NO_IMAGE_ID, "downloads that are ok, but name no picture", _AGAIN),
    Rule("rows.picture", ("downloads", "images"), _NO_PICTURE, "pictures downloaded, but not in table images", _AGAIN),
    Rule("rows.picture", ("downloads", "sightings"), _NO_SIGHTING, "pictures downloaded, but without sighting", _AGAIN),
    UnitRule(
        "rows.picture",
        "images",
        """select i.unit, count(*), min(i.image_id) from raw.images i
            anti join raw.downloads d on d.unit = i.unit and d.image_id = i.image_id
            where i.image_id not in (select image_id from gone) group by i.unit""",
        "images whose download is not in table downloads",
        _AGAIN,
    ),
    UnitRule(
        "rows.picture",
        "sightings",
        """select s.unit, count(*), min(s.image_id) from raw.sightings s
            anti join raw.downloads d on d.unit = s.unit and d.image_id = s.image_id
            where s.image_id not in (select image_id from gone) group by s.unit""",
        "sightings whose download is not in table downloads",
        _AGAIN,
    ),
)
# Fewer outcomes than the order lists are told by etl.lake.check.units, which reads the list.
_ORDERS = (
    Rule(
        "rows.order",
        ("outcomes", "orders"),
        """select o.unit as example from raw.orders o join raw.outcomes t using (unit)
            group by o.unit having count(*) > any_value(o.n_items)""",
        "orders with more outcomes than images",
        _TWICE,
    ),
)


def _ledger(bench: Bench) -> Iterator[Finding]:
    wrong = Tally()
    for source in read_ledger(bench.readable()):
        for stage in source.stages:
            if stage.images != source.images:
                wrong.add(f"{source.source}/{stage.stage}: {stage.images} outcomes and pending, {source.images} images")
    message = "stages whose ok, empty, failed and pending images do not add up to the source's"
    yield from wrong.finding("rows.ledger", message, _TWICE, ERROR)
