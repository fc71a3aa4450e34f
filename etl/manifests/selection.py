"""What a manifest's SQL chose, joined with the current annotators' rows and read back a batch at a time.

The joins are made once, into tables that DuckDB keeps within its memory limit and spills beyond it; memory here is
that of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from etl.errors import RetryableError
from etl.lake.engine import QueryError, check_select, query_errors
from etl.lake.ids import digest_bytes
from etl.lake.texts import caption_for_embedding
from etl.manifests.example import Example, Instance, Sighting, Vector
from etl.manifests.splits import Splitter

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH = 256

_IMAGES = """
create table build.images as
    with chosen as (
        select cast(image_id as varchar) as image_id, min({caption}) as override from build.selection group by all)
    select row_number() over (order by i.shard_id, i.attempt, i."offset", i.image_id) - 1 as n, i.*, chosen.override
    from images i join chosen using (image_id) order by n;
create table build.sightings as
    select distinct b.n, s.source <> b.source as elsewhere, s.url, s.source, s.caption, s.licence
    from sightings s join build.images b using (image_id);
create table build.image_captions as
    select b.n, c.caption from captions c join build.images b using (image_id)
    where c.instance_id is null and c.flag is null;
create table build.tags as select b.n, t.tags from tags t join build.images b using (image_id);
create table build.outcomes as
    select b.n, o.stage, o.status, o.annotator_id from outcomes o join build.images b using (image_id);
create table build.instances as
    select b.n, i.*, c.caption, c.flag from instances i join build.images b using (image_id)
    left join captions c on c.image_id = i.image_id and c.instance_id = i.instance_id
    {instances}
    order by b.n, i.score desc, i.instance_id;
"""
_CHOSEN_INSTANCES = """semi join build.selection s
    on cast(s.image_id as varchar) = i.image_id and cast(s.instance_id as varchar) = i.instance_id"""
_EMBEDDINGS = """
create table build.encoders as select source, annotator_id from current where stage = 'embed';
create table build.embeddings as
    select e.text_sha256, e.annotator_id, e.vector from embeddings e
    semi join build.encoders c on c.annotator_id = e.annotator_id;
"""
_COUNTS = """
with ids as (select distinct cast(image_id as varchar) as image_id from build.selection)
select (select count(*) from build.selection) as rows,
    (select count(*) from ids) as images_named,
    (select count(*) from build.images) as images_found,
    (select count(*) from ids semi join taken_down using (image_id)) as images_taken_down,
    (select count(*) from taken_down) as taken_down_in_lake"""
_LAKE = """
select (select count(*) from images) as images_in_lake, (select count(*) from instances) as instances_in_lake,
    (select count(*) from current) as current_annotators"""
_ANNOTATORS = """
select distinct o.stage, o.annotator_id, a.model, a.kind, a.untrained
from build.outcomes o join annotators a using (annotator_id) order by all"""
_PER_IMAGE = {
    "sightings": "select * from build.sightings where n >= ? and n < ? order by n, elsewhere, url, caption, licence",
    "captions": "select * from build.image_captions where n >= ? and n < ? order by n, caption",
    "tags": "select * from build.tags where n >= ? and n < ? order by n",
    "outcomes": "select * from build.outcomes where n >= ? and n < ? order by n, stage",
    "instances": "select * from build.instances where n >= ? and n < ? order by n, score desc, instance_id",
}
_VECTORS = """
select text_sha256, annotator_id, vector from build.embeddings
where text_sha256 in (select unnest(?::varchar[]))"""

Row = dict[str, Any]


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the SQL engine raises on SQL of ours into an error that says what to do."""
    from duckdb import Error

    try:
        yield
    except Error as error:
        raise RetryableError(
            f"the SQL engine failed: {error}",
            remedy="raise GROUNDLAKE_SQL_MEMORY, or free space in GROUNDLAKE_SCRATCH, where it spills",
        ) from error


class Selection:
    """The images and instances a SELECT chose.

    Args:
        connection: A sandboxed connection of a snapshot.
        sql: The SELECT; yields image_id, and if wanted instance_id and caption.
        splitter: Gives each image its split.
        embeddings: Whether labels and captions come with their vectors.

    Raises:
        QueryError: The SQL is not one SELECT, fails, or lacks the column image_id.
    """

    def __init__(self, connection: DuckDBPyConnection, sql: str, splitter: Splitter, *, embeddings: bool) -> None:
        self._connection, self._splitter, self._embeddings = connection, splitter, embeddings
        columns = self._select(sql)
        caption = "cast(caption as varchar)" if "caption" in columns else "null::varchar"
        instances = _CHOSEN_INSTANCES if "instance_id" in columns else ""
        connection.execute(_IMAGES.format(caption=caption, instances=instances))
        if embeddings:
            connection.execute(_EMBEDDINGS)
        self.counts = self._count(by_instance="instance_id" in columns)

    @property
    def n_images(self) -> int:
        """Images found in the lake."""
        return self.counts["images_found"]

    def labels(self) -> list[str]:
        """Every label of the chosen instances, sorted."""
        rows = self._connection.execute("select distinct label from build.instances").fetchall()
        return sorted(label for (label,) in rows)

    def annotators(self) -> list[Row]:
        """The annotators whose outcomes the images show: stage, annotator_id, model, kind, untrained."""
        return self._rows(_ANNOTATORS)

    def examples(self) -> Iterator[Example]:
        """Every image in the order of the tars; a tar is read from front to back."""
        for start in range(0, self.n_images, BATCH):
            bounds = [start, start + BATCH]
            images = self._rows("select * from build.images where n >= ? and n < ? order by n", bounds)
            related = {name: _by_image(self._rows(query, bounds)) for name, query in _PER_IMAGE.items()}
            vectors = self._vectors(images, related["instances"]) if self._embeddings else {}
            for image in images:
                yield self._example(image, {name: rows.get(image["n"], []) for name, rows in related.items()}, vectors)

    def _select(self, sql: str) -> list[str]:
        check_select(self._connection, sql)
        with query_errors():
            relation = self._connection.sql(sql)
            columns: list[str] = relation.columns
            if "image_id" not in columns:
                raise QueryError(
                    f"the SQL yields the columns {columns}, expected image_id among them",
                    remedy="for example: select image_id from images",
                )
            self._connection.execute("create schema build")
            relation.create("build.selection")
        return columns

    def _count(self, *, by_instance: bool) -> dict[str, int]:
        counts: dict[str, int] = self._rows(_COUNTS)[0]
        counts["images_unknown"] = counts["images_named"] - counts["images_found"] - counts["images_taken_down"]
        if not counts["rows"]:
            counts |= self._rows(_LAKE)[0]
        if by_instance:
            named, found = self._rows("""select
                (select count(distinct instance_id) from build.selection) as named,
                (select count(*) from build.instances) as found""")[0].values()
            counts["instances_named"], counts["instances_unknown"] = named, named - found
        return counts

    def _rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Row]:
        rows: list[Row] = self._connection.execute(query, parameters).to_arrow_table().to_pylist()
        return rows

    def _example(self, image: Row, related: dict[str, list[Row]], vectors: dict[tuple[str, str], Vector]) -> Example:
        instances = [_instance(row, image["source"], vectors) for row in related["instances"]]
        kept = ("image_id", "source", "tar", "offset", "length", "width", "height", "orientation", "format", "override")
        return Example(
            number=image["n"],
            split=self._splitter.of(image["image_id"]),
            **{name: image[name] for name in kept},
            sightings=[
                Sighting(row["url"], row["source"], row["caption"], row["licence"]) for row in related["sightings"]
            ],
            tags=[(one["tag"], one["score"]) for row in related["tags"] for one in row["tags"]],
            caption=next((row["caption"] for row in related["captions"]), None),
            outcomes={row["stage"]: row["status"] for row in related["outcomes"]},
            instances=instances,
        )

    def _vectors(self, images: list[Row], instances: dict[int, list[Row]]) -> dict[tuple[str, str], Vector]:
        """Vectors by (source, digest of the text)."""
        texts = {digest_bytes(text.encode()) for rows in instances.values() for row in rows for text in _texts(row)}
        found = self._rows(_VECTORS, [sorted(texts)])
        encoders = self._connection.execute("select source, annotator_id from build.encoders").fetchall()
        by_encoder = {(row["annotator_id"], row["text_sha256"]): np.asarray(row["vector"], "<f4") for row in found}
        return {(source, sha): by_encoder[a, sha] for source, a in encoders for (b, sha) in by_encoder if a == b}


def _texts(row: Row) -> list[str]:
    texts = [row["label"]]
    if row["caption"] and row["flag"] is None:
        texts.append(caption_for_embedding(row["label"], row["caption"]))
    return texts


def _instance(row: Row, source: str, vectors: dict[tuple[str, str], Vector]) -> Instance:
    found = [vectors.get((source, digest_bytes(text.encode()))) for text in _texts(row)] if vectors else [None]
    same = ("instance_id", "label", "phrase", "score", "mask_counts", "mask_area", "caption", "flag")
    return Instance(
        **{name: row[name] for name in same},
        mask_size=(row["mask_height"], row["mask_width"]),
        box=(row["x1"], row["y1"], row["x2"], row["y2"]),
        label_vector=found[0],
        caption_vector=found[1] if len(found) > 1 else None,
    )


def _by_image(rows: list[Row]) -> dict[int, list[Row]]:
    return {n: list(group) for n, group in groupby(rows, key=lambda row: row["n"])}
