"""Rows that refer to what is not there."""

from __future__ import annotations

from collections.abc import Iterator

from etl.lake.check.bench import Bench
from etl.lake.check.findings import NOTE, Finding, Progress
from etl.lake.check.rules import Rule, UnitRule, ask
from etl.lake.schemas import TABLES

_OF_OUTCOMES = ("tags", "instances", "captions")
_OF_IMAGES = (*_OF_OUTCOMES, "outcomes")
_MADE = (*_OF_IMAGES, "embeddings")
_REDO = "their outcomes are lost: groundlake annotate run makes them anew; or restore the lake from a backup"
_NO_IMAGES = "restore the lake from a backup; or download their shard again: the DAG ingest, its id in the field Shards"
_PURGE = "groundlake takedown purge"


def check_orphans(bench: Bench, progress: Progress) -> Iterator[Finding]:
    """Rows without their outcome, image, instance or annotator; rows of pictures that were taken down."""
    rules: list[Rule | UnitRule] = [
        *_without_outcome(),
        *_without_image(),
        _EMBEDDINGS,
        _CAPTIONS,
        *_without_annotator(),
        *_taken_down(),
    ]
    yield from ask(bench, rules, progress)


def _without_outcome() -> Iterator[UnitRule]:
    """A collection of an annotator takes its outcomes first: rows of one that has none left may be on their way."""
    for name in _OF_OUTCOMES:
        offenders = f"""select t.unit, count(*), min(t.image_id) from raw.{name} t
            anti join raw.outcomes o on o.image_id = t.image_id and o.annotator_id = t.annotator_id and o.unit = t.unit
            where t.image_id is not null and t.image_id not in (select image_id from gone)
            and t.annotator_id {{}} in (select annotator_id from raw.outcomes) group by t.unit"""  # noqa: S608 - ours
        message = f"table {name}: rows without an outcome"
        yield UnitRule("orphans.outcome", name, offenders.format(""), message, _REDO)
        message = f"table {name}: rows of an annotator without any outcome"
        yield UnitRule("orphans.outcome", name, offenders.format("not"), message, "groundlake lake gc ends it", NOTE)


def _without_image() -> Iterator[Rule]:
    """Only of units that show: what an open one works on may have come after the look at table images."""
    for name in _OF_IMAGES:
        offenders = f"""select t.image_id as example from raw.{name} t anti join raw.images i using (image_id)
            where t.unit in (select unit from raw.outcomes)
            and t.image_id is not null and t.image_id not in (select image_id from gone)"""  # noqa: S608 - tables of ours
        message = f"table {name}: rows whose picture is not in table images"
        yield Rule("orphans.image", (name, "images"), offenders, message, _NO_IMAGES)


# A takedown of all images of an order takes its outcomes, and leaves the texts, which others may share.
_EMBEDDINGS = UnitRule(
    "orphans.outcome",
    "embeddings",
    """select unit, count(*), min(text_sha256) from raw.embeddings
        where unit not in (select unit from raw.outcomes) group by unit""",
    "table embeddings: rows whose unit has no outcome",
    "groundlake annotate run --stages embed makes those anew that something still needs",
    NOTE,
)
# A captioner may have worked on instances that a later grounder replaced: only fresh captions are asked for theirs.
_CAPTIONS = Rule(
    "orphans.instance",
    ("captions", "instances"),
    """select c.image_id || ' instance ' || c.instance_id as example from captions c
        join outcomes oc on oc.image_id = c.image_id and oc.stage = 'caption'
        join outcomes og on og.image_id = c.image_id and og.stage = 'ground' and og.value_digest = oc.input_digest
        anti join raw.instances i on i.image_id = c.image_id and i.instance_id = c.instance_id and i.unit = og.unit
        where c.instance_id is not null""",
    "captions of instances that do not exist",
    "groundlake annotate run --stages caption --force",
)


def _without_annotator() -> Iterator[Rule]:
    for name in (*_MADE, "current"):
        offenders = f"""select annotator_id as example from (select distinct annotator_id from raw.{name})
            anti join known using (annotator_id)"""  # noqa: S608 - tables of ours
        remedy = "restore the lake from a backup, or run the stage again: it registers its annotator"
        message = f"table {name}: annotators that table annotators does not know"
        yield Rule("orphans.annotator", (name, "annotators"), offenders, message, remedy)


def _taken_down() -> Iterator[Rule]:
    """Rows of pictures that were taken down: hidden from every reader, but still there."""
    for name in (name for name, table in TABLES.items() if "image_id" in table.schema.names):
        select = f"select t.image_id as example from raw.{name} t join gone using (image_id)"  # noqa: S608
        kept = f"table {name}: rows of pictures taken down are still there"
        yield Rule(
            "takedown.rows", (name,), f"{select} where gone.purged", f"{kept}, although they are said purged", _PURGE
        )
        remedy = f"{_PURGE} ends it; the maintain DAG does so too"
        message = f"{kept}: their takedown is under way"
        yield Rule("takedown.rows", (name,), f"{select} where not gone.purged", message, remedy, NOTE)
