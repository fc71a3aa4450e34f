"""Who is compared with whom, and over which images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import ConfigurationError, DataError, UnknownNameError
from etl.lake.parting import parts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCORED = ("tag", "ground", "caption")  # the stages whose results can be right or wrong
DATASET = "dataset"
_DIGITS = 12  # of an id, in messages
_OUTCOMES = """
    select o.stage, o.annotator_id, o.image_id, o.status, o.requested_at, i.source, i.width, i.height
    from all_outcomes o join images i using (image_id)
    where o.annotator_id in ({}) and (? is null or i.source = ?)"""


@dataclass(frozen=True)
class Annotator:
    """An annotator as the lake knows it; ``model`` is the name of the dataset where ``kind`` is ``dataset``."""

    annotator_id: str
    stage: str
    model: str
    kind: str
    untrained: bool
    created_at: datetime

    def __str__(self) -> str:
        return f"{self.annotator_id[:_DIGITS]} ({self.stage}, {self.model})"


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Attributes:
        truth: Who is right, per stage that it speaks of.
        predicted: Who is scored, per stage.
        scope: Columns stage, image_id, width, height (pixels): per scored stage the images whose truth is ok or empty.
        truth_failed: Per scored stage, images left out because their truth failed.
        notes: What a reader of the scores must know about the choice.
    """

    truth: Mapping[str, Annotator]
    predicted: Mapping[str, Annotator]
    scope: pa.Table
    truth_failed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are scored: those with a truth and somebody to score."""
        return tuple(stage for stage in SCORED if stage in self.truth and stage in self.predicted)


def choose(
    connection: DuckDBPyConnection, *, truth: str, source: str | None = None, annotators: Sequence[str] = ()
) -> Chosen:
    """Find the annotators of both sides, and the images that count.

    An image counts for a stage when the truth's outcome of that stage is ok or empty, and its canonical copy is of
    ``source``. Of a dataset that was landed more than once, the content landed last counts.

    Args:
        connection: A connection of a snapshot of the lake.
        truth: Name of a dataset, or an annotator's id or the unique beginning of it; several with commas between.
        source: Only images of this source.
        annotators: Who is scored, named in the same way; a stage without one is scored for the current annotator.

    Raises:
        UnknownNameError: A name, id or source is not there, or the beginning of an id is not unique.
        ConfigurationError: A stage has two annotators or cannot be scored, or current annotators differ by source.
        DataError: There is nothing to score.
    """
    known = _known(connection)
    _check_source(connection, source)
    candidates = _by_stage(known, [name.strip() for name in truth.split(",")], "truth")
    predicted = _only(_by_stage(known, annotators, "annotator"))
    outcomes = _outcomes(connection, [one for many in candidates.values() for one in many], source)
    right, notes = _latest(candidates, outcomes)
    if not right:
        where = f" of source {source!r}" if source else ""
        raise DataError(
            f"nothing to score: {truth!r} has no outcome of any image{where}",
            remedy="land it (groundlake truth add), or choose another --source",
        )
    outcomes = outcomes.filter(_is_in(outcomes["annotator_id"], [one.annotator_id for one in right.values()]))
    sources = sorted(pc.unique(outcomes["source"]).to_pylist())
    predicted |= _current(connection, known, right.keys() - predicted.keys(), sources)
    return _chosen(right, predicted, outcomes, [*notes, *_remarks(right, predicted, sources)])


def _chosen(
    truth: Mapping[str, Annotator], predicted: Mapping[str, Annotator], outcomes: pa.Table, notes: Sequence[str]
) -> Chosen:
    outcomes = outcomes.filter(_is_in(outcomes["stage"], [stage for stage in truth if stage in predicted]))
    failed = outcomes.filter(pc.equal(outcomes["status"], "failed"))
    scope = outcomes.filter(pc.not_equal(outcomes["status"], "failed"))
    if not scope.num_rows:
        why = "; ".join(notes) if not failed.num_rows else f"the truth failed for all its {failed.num_rows} outcomes"
        raise DataError(
            f"nothing to score: {why}", remedy="annotate its images (groundlake annotate run), or name an --annotator"
        )
    counts = failed.group_by("stage").aggregate([("image_id", "count")]).to_pylist()
    return Chosen(
        truth=truth,
        predicted=predicted,
        scope=scope.select(["stage", "image_id", "width", "height"]),
        truth_failed={row["stage"]: row["image_id_count"] for row in counts},
        notes=tuple(notes),
    )


def _known(connection: DuckDBPyConnection) -> list[Annotator]:
    query = "select annotator_id, stage, model, kind, untrained, created_at from annotators order by annotator_id"
    return [Annotator(*row) for row in connection.execute(query).fetchall()]


def _check_source(connection: DuckDBPyConnection, source: str | None) -> None:
    known = [row[0] for row in connection.execute("select distinct source from shards").fetchall()]
    if source is not None and source not in known:
        raise UnknownNameError("source", source, known, remedy="see 'groundlake status'")


def _by_stage(known: Sequence[Annotator], names: Iterable[str], kind: str) -> dict[str, list[Annotator]]:
    """The annotators of some names per stage: several of one stage only as versions of one dataset.

    Raises:
        UnknownNameError: A name is not known or not unique.
        ConfigurationError: Two names speak of one stage, or one of a stage that cannot be scored.
    """
    found: dict[str, list[Annotator]] = {}
    for name in dict.fromkeys(names):
        mine = _named(known, name, kind)
        for stage in sorted({one.stage for one in mine}):
            if stage not in SCORED:
                raise ConfigurationError(
                    f"{kind} {name!r} is of stage {stage!r}, which cannot be scored; expected {', '.join(SCORED)}"
                )
            if stage in found:
                raise ConfigurationError(
                    f"two of stage {stage!r} are given as {kind}: {found[stage][0]} and {name!r}",
                    remedy="name one per stage",
                )
            found[stage] = [one for one in mine if one.stage == stage]
    return found


def _named(known: Sequence[Annotator], name: str, kind: str) -> list[Annotator]:
    of_dataset = [one for one in known if one.kind == DATASET and one.model == name]
    if of_dataset:
        return of_dataset
    matches = [one for one in known if name and one.annotator_id.startswith(name)]
    if len(matches) == 1:
        return matches
    if matches:
        raise UnknownNameError(f"{kind} (ambiguous)", name, [str(one) for one in matches], remedy="give more digits")
    datasets = {f"dataset {one.model}" for one in known if one.kind == DATASET}
    others = [str(one) for one in known if one.stage in SCORED and one.kind != DATASET]
    raise UnknownNameError(
        kind,
        name,
        [*datasets, *others],
        remedy="see 'groundlake truth list'; or give the beginning of an annotator's id",
    )


def _only(by_stage: Mapping[str, Sequence[Annotator]]) -> dict[str, Annotator]:
    for stage, versions in by_stage.items():
        if len(versions) > 1:
            listed = [f"{one}, landed {one.created_at:%Y-%m-%d %H:%M}" for one in versions]
            raise UnknownNameError(
                f"{stage} annotator (ambiguous)", versions[0].model, listed, remedy="name one by its id"
            )
    return {stage: versions[0] for stage, versions in by_stage.items()}


def _outcomes(connection: DuckDBPyConnection, annotators: Sequence[Annotator], source: str | None) -> pa.Table:
    """Every visible outcome of some annotators, with source and size of its image."""
    query = _OUTCOMES.format(", ".join("?" * len(annotators)))
    values = [*(one.annotator_id for one in annotators), source, source]
    return pa.concat_tables([connection.execute(query, values).to_arrow_table() for _ in parts(connection)])


def _latest(
    candidates: Mapping[str, Sequence[Annotator]], outcomes: pa.Table
) -> tuple[dict[str, Annotator], list[str]]:
    """Of every stage the version that was landed last, among those that speak of an image at all."""
    last = outcomes.group_by("annotator_id").aggregate([("requested_at", "max")]).to_pylist()
    landed: dict[str, Any] = {row["annotator_id"]: row["requested_at_max"] for row in last}
    found, notes = {}, []
    for stage in (stage for stage in SCORED if stage in candidates):
        versions = [one for one in candidates[stage] if one.annotator_id in landed]
        if not versions:
            notes.append(f"{stage}: the truth has no outcome of these images")
            continue
        newest = max(versions, key=lambda one: (landed[one.annotator_id], one.created_at, one.annotator_id))
        found[stage] = newest
        if len(versions) > 1:
            others = ", ".join(str(one) for one in versions if one is not newest)
            notes.append(f"{stage}: {newest} is the truth, landed last; not used: {others}")
    return found, notes


def _current(
    connection: DuckDBPyConnection, known: Sequence[Annotator], stages: Collection[str], sources: Sequence[str]
) -> dict[str, Annotator]:
    """The current annotators of some stages for some sources; none of a stage that never ran for any of them."""
    rows = connection.execute("select stage, source, annotator_id from current order by all").fetchall()
    found: dict[str, Annotator] = {}
    for stage in (stage for stage in SCORED if stage in stages):
        mine = {source: annotator_id for of, source, annotator_id in rows if of == stage and source in sources}
        if len(set(mine.values())) > 1:
            listed = ", ".join(f"{source}: {annotator_id[:_DIGITS]}" for source, annotator_id in mine.items())
            raise ConfigurationError(
                f"the sources of the truth have different current {stage} annotators ({listed})",
                remedy="choose a --source, or name the --annotator",
            )
        found |= {stage: one for one in known if one.annotator_id in mine.values()}  # noqa: B035 - one at most
    return found


def _remarks(truth: Mapping[str, Annotator], predicted: Mapping[str, Annotator], sources: Sequence[str]) -> list[str]:
    """A line for every stage that is not scored, or whose score means nothing, and why."""
    notes = []
    for stage in SCORED:
        if stage not in truth:
            notes.append(f"{stage}: not scored, there is no truth of it")
        elif stage not in predicted:
            notes.append(f"{stage}: not scored, no annotator ran for {', '.join(sources)}")
        elif truth[stage] == predicted[stage]:
            notes.append(f"{stage}: {truth[stage]} is compared with itself")
    return notes


def _is_in(column: pa.ChunkedArray, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(values, pa.string()))
