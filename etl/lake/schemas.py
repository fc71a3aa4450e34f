"""The schema of every table, column by column: the one place that says what a row holds.

Pixels are those of the picture after EXIF orientation, origin top left; boxes are xyxy.
Only types that every Delta reader shares are used: signed integers, float32/float64, string, bool, UTC microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 2
TIME = pa.timestamp("us", tz="UTC")
TAGS = pa.list_(pa.struct([pa.field("tag", pa.string()), pa.field("score", pa.float32())]))
VECTOR = pa.list_(pa.float32())


@dataclass(frozen=True)
class Column:
    """One column: its type, meaning and unit, whether it may be null, and the schema version that brought it.

    A column of a later version than its table is nullable: files written before it read as null.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    since: int = 1


@dataclass(frozen=True)
class Table:
    """One table: what a row stands for, its columns, the order its files are sorted in, and since which version."""

    name: str
    row: str
    columns: tuple[Column, ...]
    sort: tuple[str, ...] = ()
    since: int = 1

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def statistics(self) -> tuple[str, ...]:
        """Columns whose minimum and maximum each file records, so that readers can skip it."""
        wanted = ("image_id", "shard_id", "annotator_id")
        return tuple(c.name for c in self.columns if c.name in wanted)


_string, _int, _long, _float, _bool = pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.bool_()
_IMAGE = Column("image_id", _string, "first 32 hex digits of the sha256 of the encoded bytes as stored")
_SHARD = Column("shard_id", _string, "shard whose tar holds the picture")
_UNIT = Column("unit", _string, "key of the work order that wrote the row; joins to the visible outcome")
_ANNOTATOR = Column("annotator_id", _string, "what computed the row: see annotators")

_TABLES = (
    Table(
        "sources",
        "source snapshot",
        (
            Column("name", _string, "name in the catalog"),
            Column("kind", _string, "urls"),
            Column("uri", _string, "where the list was read"),
            Column("digest", _string, "digest of the list's urls and captions"),
            Column("n_urls", _long, "distinct urls in the list"),
            Column("licence", _string, "licence as the catalog gives it", nullable=True),
            Column("seen_at", TIME, "when this content was first read"),
        ),
    ),
    Table(
        "shards",
        "shard and attempt",
        (
            _SHARD,
            Column("source", _string, "source the urls come from"),
            Column("attempt", _int, "1 for the first download, higher after an outage"),
            Column("urls", _string, "key of the Parquet list of urls, relative to the lake"),
            Column("n_urls", _int, "urls in the list"),
            Column("download", _string, "JSON of the download settings"),
            Column("planned_at", TIME, "when the shard was planned"),
            Column("request", _string, "Airflow run or command that planned it"),
        ),
    ),
    Table(
        "downloads",
        "url and attempt",
        (
            Column("url", _string, "the url as listed"),
            Column("url_sha256", _string, "first 32 hex digits of the sha256 of the url"),
            _SHARD,
            Column("attempt", _int, "attempt of the shard"),
            _UNIT,
            Column("status", _string, "ok or failed"),
            Column("error_class", _string, "dns, http_404, http_429, timeout, tls, blocked, decode, …", nullable=True),
            Column("error", _string, "what was wrong, in words", nullable=True),
            Column("http_status", _int, "HTTP status where there was an answer", nullable=True),
            Column("bytes", _long, "bytes received", nullable=True),
            Column("image_id", _string, "the picture, when ok", nullable=True),
            Column("tried_at", TIME, "when the attempt was settled"),
        ),
        sort=("shard_id", "url_sha256"),
    ),
    Table(
        "images",
        "stored copy of a picture",
        (
            _IMAGE,
            _SHARD,
            Column("attempt", _int, "attempt of the shard"),
            _UNIT,
            Column("tar", _string, "key of the tar, relative to the lake"),
            Column("offset", _long, "first byte of the picture in the tar"),
            Column("length", _long, "bytes of the picture"),
            Column("width", _int, "pixels, after EXIF orientation"),
            Column("height", _int, "pixels, after EXIF orientation"),
            Column("orientation", _int, "EXIF orientation flag, 1 to 8"),
            Column("format", _string, "jpeg, png, webp, …"),
            Column("phash", _string, "64-bit perceptual hash, 16 hex digits"),
            Column("ingested_at", TIME, "when the picture was settled"),
        ),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "sightings",
        "picture and place it was found",
        (
            _IMAGE,
            _SHARD,
            _UNIT,
            Column("url", _string, "where it was found"),
            Column("source", _string, "source that lists the url"),
            Column("caption", _string, "caption of the source", nullable=True),
            Column("source_sha256", _string, "sha256 of the bytes as downloaded"),
            Column("original_id", _string, "id in a public dataset", nullable=True),
            Column("split", _string, "split in a public dataset", nullable=True),
            Column("licence", _string, "licence of the source", nullable=True),
            Column("original_width", _int, "pixels as downloaded", nullable=True),
            Column("original_height", _int, "pixels as downloaded", nullable=True),
        ),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "tags",
        "image and annotator",
        (_IMAGE, _SHARD, _ANNOTATOR, _UNIT, Column("tags", TAGS, "tag and score (0..1), highest score first")),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "instances",
        "detected object",
        (
            _IMAGE,
            _SHARD,
            Column("instance_id", _string, "digest of image, label, box to 1/8 px, mask and ordinal among equals"),
            _ANNOTATOR,
            _UNIT,
            Column("label", _string, "the tag the phrase maps back to"),
            Column("phrase", _string, "the phrase as the detector answered it"),
            Column("score", _float, "detector score, 0..1"),
            Column("x1", _float, "left edge, pixels"),
            Column("y1", _float, "top edge, pixels"),
            Column("x2", _float, "right edge, pixels, > x1"),
            Column("y2", _float, "bottom edge, pixels, > y1"),
            Column("area", _float, "area of the box, pixels"),
            Column("mask_counts", _string, "COCO compressed RLE, column-major"),
            Column("mask_height", _int, "height of the mask = of the image, pixels"),
            Column("mask_width", _int, "width of the mask = of the image, pixels"),
            Column("mask_area", _long, "pixels set in the mask"),
            Column("predicted_iou", _float, "the segmenter's own estimate, 0..1"),
        ),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "captions",
        "image or instance, and annotator",
        (
            _IMAGE,
            _SHARD,
            Column("instance_id", _string, "the instance; null for the caption of the whole image", nullable=True),
            _ANNOTATOR,
            _UNIT,
            Column("caption", _string, "the text"),
            Column("score", _float, "mean log probability per token, <= 0", nullable=True),
            Column("flag", _string, "degenerate text: empty, echo, loop; or label: crop too small", nullable=True),
        ),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "embeddings",
        "distinct text and encoder",
        (
            Column("text_sha256", _string, "first 32 hex digits of the sha256 of the text"),
            Column("text", _string, "the text"),
            _ANNOTATOR,
            _UNIT,
            Column("vector", VECTOR, "text pooler output before projection, fixed length per encoder"),
        ),
        sort=("text_sha256",),
    ),
    Table(
        "outcomes",
        "image and work order",
        (
            _IMAGE,
            _SHARD,
            Column("stage", _string, "tag, ground, caption or embed"),
            _ANNOTATOR,
            _UNIT,
            Column("requested_at", TIME, "when the request was made; the same on every try"),
            Column("status", _string, "ok, empty or failed"),
            Column("reason", _string, "why it is empty or failed", nullable=True),
            Column("error", _string, "the error in words", nullable=True),
            Column("retryable", _bool, "whether planning may try it again"),
            Column("input_digest", _string, "value_digest of the upstream outcome this one was made from"),
            Column("value_digest", _string, "digest of what was produced"),
            Column("seconds", _float, "share of the batch's time"),
        ),
        sort=("shard_id", "image_id"),
    ),
    Table(
        "annotators",
        "annotator",
        (
            _ANNOTATOR,
            Column("stage", _string, "tag, ground, caption or embed"),
            Column("model", _string, "name in the catalog"),
            Column("kind", _string, "model or dataset"),
            Column("untrained", _bool, "random weights: structure is real, answers mean nothing"),
            Column("record", _string, "JSON of everything that changes a result"),
            Column("created_at", TIME, "when it was first used"),
        ),
    ),
    Table(
        "current",
        "promotion of an annotator",
        (
            Column("stage", _string, "stage"),
            Column("source", _string, "source"),
            _ANNOTATOR,
            Column("promoted_at", TIME, "the latest per stage and source counts"),
            Column("reason", _string, "first of its stage, or who promoted it"),
        ),
    ),
    Table(
        "runs",
        "try of a work order",
        (
            Column("run_id", _string, "random id of the try"),
            Column("request", _string, "Airflow run or command"),
            _UNIT,
            Column("stage", _string, "stage"),
            _ANNOTATOR,
            Column("host", _string, "host name"),
            Column("device", _string, "cpu, or the name of the GPU"),
            Column("started_at", TIME, "start of the order"),
            Column("seconds", _float, "wall time of the order"),
            Column("network_seconds", _float, "time spent in the network"),
            Column("decode_wait_seconds", _float, "time the network waited for decoded images"),
            Column("images", _long, "images this try worked on"),
            Column("batch", _int, "images per batch at its end: less than the catalog's when memory ran out", True, 2),
            Column("ok", _long, "of them ok"),
            Column("empty", _long, "of them empty"),
            Column("failed", _long, "of them failed"),
        ),
    ),
    Table(
        "manifests",
        "built manifest version",
        (
            Column("name", _string, "name of the manifest"),
            Column("version", _string, "digest of spec, SQL and the rows' versions"),
            Column("format", _string, "output format"),
            Column("path", _string, "folder, relative to the lake where it lies inside"),
            Column("lock", _string, "JSON of manifest.lock.json"),
            Column("n_images", _long, "images written"),
            Column("n_annotations", _long, "annotations written"),
            Column("built_at", TIME, "when it was built"),
        ),
    ),
    Table(
        "takedowns",
        "tombstone",
        (
            Column("kind", _string, "image_id, url_sha256 or source_sha256"),
            Column("value", _string, "the id or digest"),
            Column("reason", _string, "why"),
            Column("requested_at", TIME, "when"),
            Column("takedown_id", _string, "the request it belongs to; see takedown_events", True, 2),
        ),
    ),
    Table(
        "orders",
        "work order of a stage",
        (
            _UNIT,
            Column("stage", _string, "tag, ground, caption or embed"),
            _ANNOTATOR,
            Column("shards", pa.list_(_string), "every shard that holds a copy of an image it lists"),
            Column("items", _string, "key of its list of images, relative to the lake"),
            Column("n_items", _long, "images in the list"),
            Column("request", _string, "Airflow run or command that opened it"),
            Column("opened_at", TIME, "when it was opened"),
        ),
        since=2,
    ),
    Table(
        "rewrites",
        "data file that a takedown replaced",
        (
            Column("table_name", _string, "table the file belongs to"),
            Column("old_path", _string, "path inside the table of the file that held pictures taken down"),
            Column("new_path", _string, "path of the same rows without them; null when none is left", nullable=True),
            Column("rows_removed", _long, "rows that are not in the new file"),
            Column("rewritten_at", TIME, "when; the old file is deleted GROUNDLAKE_PURGE_HOURS later"),
        ),
        since=2,
    ),
    Table(
        "takedown_events",
        "step of a takedown",
        (
            Column("takedown_id", _string, "the request"),
            Column("event", _string, "requested, rewritten (rows and bytes gone from now on) or purged (from history)"),
            Column("detail", _string, "JSON: who and why, rows removed per table, bytes overwritten per tar, …"),
            Column("at", TIME, "when"),
        ),
        since=2,
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
# Tables whose rows an order commits; runs and orders only speak of one.
UNIT_TABLES = tuple(
    name for name, table in TABLES.items() if "unit" in table.schema.names and name not in ("runs", "orders")
)
