"""What both sides say about each image, read a range of images at a time.

The views are asked once, into tables that DuckDB keeps within its memory limit and spills beyond it; memory here is
that of one range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from etl.errors import DataError
from etl.evaluate.choose import Annotator, Chosen
from etl.evaluate.classes import ClassMap
from etl.lake.parting import parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RANGE = 500  # images
_TABLES = """
create schema if not exists score;
create or replace table score.scope as from given;
create or replace table score.outcomes (image_id varchar, stage varchar, status varchar);
create or replace table score.tags (image_id varchar, annotator_id varchar, tags varchar[]);
create or replace table score.instances (image_id varchar, annotator_id varchar, instance_id varchar, label varchar,
    score float, x1 float, y1 float, x2 float, y2 float, mask_counts varchar, mask_height integer, mask_width integer,
    mask_area bigint);
create or replace table score.captions (image_id varchar, annotator_id varchar, instance_id varchar, caption varchar,
    flag varchar);
"""
_OUTCOMES = """
insert into score.outcomes select o.image_id, o.stage, o.status from all_outcomes o
    semi join score.scope s on s.image_id = o.image_id and s.stage = o.stage where o.annotator_id in ({})"""
_ROWS = {  # what one or two annotators of a stage say
    "tag": """
insert into score.tags select t.image_id, t.annotator_id, list_transform(t.tags, lambda one: one.tag) from all_tags t
    semi join score.scope s on s.image_id = t.image_id and s.stage = 'tag' where t.annotator_id in ({})""",
    "ground": """
insert into score.instances select t.image_id, t.annotator_id, t.instance_id, t.label, t.score, t.x1, t.y1, t.x2, t.y2,
        t.mask_counts, t.mask_height, t.mask_width, t.mask_area from all_instances t
    semi join score.scope s on s.image_id = t.image_id and s.stage = 'ground' where t.annotator_id in ({})""",
    "caption": """
insert into score.captions select t.image_id, t.annotator_id, t.instance_id, t.caption, t.flag from all_captions t
    semi join score.scope s on s.image_id = t.image_id and s.stage = 'caption' where t.annotator_id in ({})""",
}
_READ = {  # in an order that depends on nothing but the content
    "scope": "select * from score.scope where image_id between ? and ? order by image_id, stage",
    "outcomes": "select * from score.outcomes where image_id between ? and ? order by image_id, stage",
    "tags": "select * from score.tags where image_id between ? and ? order by image_id, annotator_id",
    "instances": """select * from score.instances where image_id between ? and ?
        order by image_id, annotator_id, score desc, instance_id""",
    "captions": """select * from score.captions where image_id between ? and ?
        order by image_id, annotator_id, instance_id nulls first, caption""",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """One object.

    Attributes:
        instance_id: Its id.
        label: Its class, as the truth would call it.
        score: 0..1.
        box: xywh in pixels.
        mask: COCO's RLE, ``size`` as (height, width); None where the truth has a box alone.
        caption: Its caption, or None.
        flag: Of the caption; ``label`` where the crop was too small for the captioner.
    """

    instance_id: str
    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mapping[str, Any] | None
    caption: str | None = None
    flag: str | None = None


@dataclass(frozen=True)
class Said:
    """What one side says of an image: tags, instances (best first, then by id) and captions of the whole image."""

    tags: frozenset[str] = frozenset()
    instances: tuple[Instance, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Both sides of one image; ``stages`` are those that it counts for, sizes are in pixels."""

    image_id: str
    width: int
    height: int
    stages: frozenset[str]
    truth: Said = Said()
    predicted: Said = Said()


class Rows:
    """The images of a choice and what both sides say about them.

    Args:
        connection: A connection of the snapshot that the choice was made in; it holds the rows of one ``Rows`` at most.
        chosen: Who is compared with whom, over which images.
        classes: How labels of the scored side are renamed.

    Attributes:
        ignored: Tags and instances that the class map ignored, of the images read so far.
        without_outcome: Images per stage without an outcome of the scored annotator, of the images read so far.
        failed: Images per stage whose outcome of the scored annotator is failed, likewise.
    """

    def __init__(self, connection: DuckDBPyConnection, chosen: Chosen, classes: ClassMap) -> None:
        self.ignored, self.without_outcome, self.failed = Counter[str](), Counter[str](), Counter[str]()
        self._connection, self._chosen, self._classes = connection, chosen, classes
        self._ids: list[str] = sorted(pc.unique(chosen.scope["image_id"]).to_pylist())
        connection.register("given", chosen.scope)
        connection.execute(_TABLES)
        connection.unregister("given")
        for _ in parts(connection):
            _load(connection, chosen)

    @property
    def images(self) -> int:
        """Images that count for any stage."""
        return len(self._ids)

    def ranges(self, size: int = RANGE) -> Iterator[list[Pair]]:
        """All images in order of their ids, ``size`` at a time.

        Raises:
            DataError: Masks of one image differ in size.
        """
        for start in range(0, self.images, size):
            ids = self._ids[start : start + size]
            read = {name: self._read(query, ids[0], ids[-1]) for name, query in _READ.items()}
            yield [
                self._pair(image_id, {name: rows.get(image_id, []) for name, rows in read.items()}) for image_id in ids
            ]

    def _read(self, query: str, first: str, last: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self._connection.execute(query, [first, last]).to_arrow_table().to_pylist():
            found.setdefault(row["image_id"], []).append(row)
        return found

    def _pair(self, image_id: str, rows: Mapping[str, Sequence[Row]]) -> Pair:
        stages = frozenset(row["stage"] for row in rows["scope"])
        status = {row["stage"]: row["status"] for row in rows["outcomes"]}
        self.without_outcome.update(stages - status.keys())
        self.failed.update(stage for stage in stages if status.get(stage) == "failed")
        answered = {stage for stage in stages if status.get(stage, "failed") != "failed"}
        pair = Pair(
            image_id=image_id,
            width=rows["scope"][0]["width"],
            height=rows["scope"][0]["height"],
            stages=stages,
            truth=_said(rows, self._chosen.truth, stages, empty_masks=False),
            predicted=self._renamed(_said(rows, self._chosen.predicted, answered)),
        )
        _check_sizes(pair)
        return pair

    def _renamed(self, said: Said) -> Said:
        tags = {tag: self._classes.of(tag) for tag in said.tags}
        labels = [(one, self._classes.of(one.label)) for one in said.instances]
        self.ignored["tag"] += sum(name is None for name in tags.values())
        self.ignored["ground"] += sum(name is None for _, name in labels)
        return Said(
            tags=frozenset(name for name in tags.values() if name is not None),
            instances=tuple(replace(one, label=name) for one, name in labels if name is not None),
            captions=said.captions,
        )


def _load(connection: DuckDBPyConnection, chosen: Chosen) -> None:
    """Add what the views show now to the tables."""
    scored = [chosen.predicted[stage].annotator_id for stage in chosen.stages]
    connection.execute(_OUTCOMES.format(_places(scored)), scored)
    for stage in chosen.stages:
        both = sorted({side[stage].annotator_id for side in (chosen.truth, chosen.predicted)})
        connection.execute(_ROWS[stage].format(_places(both)), both)


def _places(values: Sequence[str]) -> str:
    """A place per value: unlike a list in one place, DuckDB skips files by them."""
    return ", ".join("?" * len(values))


def _said(
    rows: Mapping[str, Sequence[Row]],
    side: Mapping[str, Annotator],
    stages: Collection[str],
    *,
    empty_masks: bool = True,
) -> Said:
    """What a side says of an image; nothing of stages that gave no answer.

    A mask without a pixel is an answer of a network, but in the truth it means that nobody drew one.
    """

    def of(stage: str, table: str) -> list[Row]:
        if stage not in stages:
            return []
        return [row for row in rows[table] if row["annotator_id"] == side[stage].annotator_id]

    captions = of("caption", "captions")
    by_instance = {row["instance_id"]: row for row in captions if row["instance_id"] is not None}
    objects = [_instance(row, by_instance.get(row["instance_id"]), empty_masks) for row in of("ground", "instances")]
    return Said(
        tags=frozenset(tag for row in of("tag", "tags") for tag in row["tags"]),
        instances=tuple(objects),
        captions=tuple(row["caption"] for row in captions if row["instance_id"] is None),
    )


def _instance(row: Row, caption: Row | None, empty_masks: bool) -> Instance:
    mask = {"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"].encode()}
    return Instance(
        instance_id=row["instance_id"],
        label=row["label"],
        score=row["score"],
        box=(row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]),
        mask=mask if row["mask_area"] or empty_masks else None,
        caption=caption["caption"] if caption else None,
        flag=caption["flag"] if caption else None,
    )


def _check_sizes(pair: Pair) -> None:
    """Masks of different sizes overlap nowhere, by pycocotools: a score of zero that would mean nothing."""
    masks = (one.mask for one in (*pair.truth.instances, *pair.predicted.instances))
    sizes = sorted({tuple(mask["size"]) for mask in masks if mask is not None})
    if len(sizes) > 1:
        raise DataError(
            f"image {pair.image_id}: masks of {' and '.join(f'{w}x{h}' for h, w in sizes)} pixels are compared, "
            f"the image has {pair.width}x{pair.height}",
            remedy="land the truth again with masks of the image's own size",
        )
