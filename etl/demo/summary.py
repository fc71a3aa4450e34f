"""What came out of a demo: counted in the lake, compared with what was served, and told."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from etl.demo.pictures import SampleSource
from etl.demo.prepare import MANIFESTS, Layout
from etl.demo.report import Report
from etl.errors import GroundlakeError
from etl.ingest.failures import TAKEN_DOWN
from etl.lake import Lake, Snapshot
from etl.settings.catalog import STAGES

if TYPE_CHECKING:
    from etl.evaluate.evaluation import Evaluation

Work = tuple[str, dict[str, object]]

_OUTCOMES = """
    with counted as (
        select stage, status, reason, count(*) as n from outcomes where source = ? group by all)
    select stage,
        coalesce(sum(n) filter (status = 'ok'), 0)::int as ok,
        coalesce(sum(n) filter (status = 'empty'), 0)::int as empty,
        coalesce(sum(n) filter (status = 'failed'), 0)::int as failed,
        coalesce(string_agg(n || ' ' || reason, ', ' order by n desc, reason) filter (reason is not null), '') as why
    from counted group by stage"""
_UNTRAINED = """
    select distinct c.stage from current c join annotators a using (annotator_id)
    where c.source = ? and a.untrained order by all"""
_WITHOUT_OUTCOME = """
    select count(*) from images i cross join (select unnest(?::varchar[]) as stage) s
    where i.source = ? and not exists (
        select 1 from outcomes o where o.image_id = i.image_id and o.stage = s.stage)"""
# Annotations have no source of their own: their image has.
_ANNOTATIONS = """
    with mine as (select image_id from images where source = ?)
    select
        (select sum(len(tags)) from tags semi join mine using (image_id)) as tags,
        (select count(*) from instances semi join mine using (image_id)) as boxes,
        (select count(*) from instances semi join mine using (image_id) where mask_area > 0) as masks,
        (select count(*) from captions semi join mine using (image_id) where instance_id is null) as image_captions,
        (select count(*) from captions semi join mine using (image_id) where instance_id is not null)
            as instance_captions,
        (select count(*) from embeddings) as text_embeddings"""
_MANIFESTS = """
    select name, format, n_images, n_annotations, path from manifests
    qualify row_number() over (partition by name order by built_at desc) = 1 order by name"""


class CountsDifferError(GroundlakeError):
    """The lake does not hold what the picture server served."""


def unfinished(lake: Lake, source: str) -> Work | None:
    """The DAG to trigger, with its conf, for work that no new picture will start; None when all is done."""
    with Snapshot.take(lake).connect() as connection:
        missing = _value(connection.execute(_WITHOUT_OUTCOME, [list(STAGES), source]).fetchone())
        built = {name for (name,) in connection.execute("select distinct name from manifests").fetchall()}
    if missing:
        return "annotate", {"sources": [source]}
    names = sorted(set(MANIFESTS) - built)
    return ("manifest", {"names": names}) if names else None


def _differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """What differs, in words. A url whose picture was taken down since may have been anything before."""
    missing = {name: number - found.get(name, 0) for name, number in expected.items() if number > found.get(name, 0)}
    surplus = {name: number for name, number in found.items() if number > expected.get(name, 0) and name != TAKEN_DOWN}
    if not surplus and sum(missing.values()) == found.get(TAKEN_DOWN, 0):
        return []
    return [
        f"{name}: served {expected.get(name, 0)}, in the lake {found.get(name, 0)}"
        for name in sorted({*missing, *surplus, *({TAKEN_DOWN} & set(found))})
    ]


def check_counts(lake: Lake, source: str, sample: SampleSource) -> None:
    """Compare the settled urls with what the sample was made of.

    Raises:
        CountsDifferError: They differ, or an image has no outcome of a stage.
    """
    found = counts(lake, source)
    expected = {name: number for name, number in sample.expected.items() if number}
    wrong = _differences(expected, found)
    if wrong or sum(found.values()) != sample.n_urls:
        raise CountsDifferError(
            f"of {sample.n_urls} urls the lake has {sum(found.values())}:\n  " + "\n  ".join(wrong),
            remedy="a url that failed for a passing reason is tried again by: "
            f"groundlake ingest run --source {source} --retry-failed",
        )
    left = unfinished(lake, source)
    if left is not None:
        raise CountsDifferError(
            f"the DAG {left[0]} ended well and still has work for {left[1]}", remedy="'groundlake status' shows where"
        )


def counts(lake: Lake, source: str) -> dict[str, int]:
    """The urls of a source by what became of them: ``ok``, ``duplicate``, or the class of the failure."""
    from etl.ingest.counts import source_counts

    found = source_counts(Snapshot.take(lake), source)
    named = {"ok": found.ok, "duplicate": found.duplicate, **found.failed}
    return {name: number for name, number in named.items() if number}


def print_summary(lake: Lake, source: str, layout: Layout, evaluation: Evaluation, report: Report) -> None:
    """Print what the lake holds of a source and how right it is; draw its contact sheet and its worst pictures."""
    _print_counts(lake, source, report)
    _print_scores(evaluation, report)
    _print_manifests(lake, layout, report)
    _draw(lake, source, layout, evaluation, report)
    warn_of_untrained(lake, source, report)


def _print_counts(lake: Lake, source: str, report: Report) -> None:
    urls = counts(lake, source)
    with Snapshot.take(lake).connect() as connection:
        outcomes = connection.execute(_OUTCOMES, [source]).fetchall()
        annotations = connection.execute(_ANNOTATIONS, [source]).to_arrow_table().to_pylist()[0]
    report.table(f"{sum(urls.values())} urls served", ["became", "urls"], _by_size(urls))
    stages = sorted(outcomes, key=lambda row: STAGES.index(row[0]))
    report.table(f"{urls.get('ok', 0)} images", ["stage", "ok", "empty", "failed", "why"], stages)
    kinds = [(name.replace("_", " "), number or 0) for name, number in annotations.items()]
    report.table("Annotations", ["kind", "rows"], kinds)


def _print_scores(evaluation: Evaluation, report: Report) -> None:
    """One row for each thing that is scored, with the number of its cases in the truth."""
    rows = []
    for what, lines in groupby(evaluation.lines(), key=lambda line: line.what):
        scores = list(lines)
        told = ", ".join(f"{one.score} {'-' if one.value is None else f'{one.value:.3f}'}" for one in scores)
        rows.append((what, told, scores[0].n))
    title = f"Scores of the annotators against the truth of {evaluation.images.evaluated} images"
    report.table(title, ["what", "scores", "of"], rows)
    for note in evaluation.notes:
        report.line(f"  {note}", "yellow")


def _print_manifests(lake: Lake, layout: Layout, report: Report) -> None:
    with Snapshot.take(lake).connect() as connection:
        manifests = connection.execute(_MANIFESTS).fetchall()
    built = [(name, kind, images, notes) for name, kind, images, notes, _ in manifests]
    report.table("Manifests", ["name", "format", "images", "annotations"], built)
    for *_, path in manifests:  # not in the table, where a long path would be cut
        report.line(f"  {layout.lake / path}")


def _draw(lake: Lake, source: str, layout: Layout, evaluation: Evaluation, report: Report) -> None:
    from etl.evaluate.picture import draw_worst
    from etl.viewer.contact_sheet import contact_sheet

    drawn = contact_sheet(lake, layout.contact_sheet, source=source)
    report.line(f"\nContact sheet of {drawn} pictures: {layout.contact_sheet}")
    worst = draw_worst(lake, evaluation, layout.worst)
    report.line(f"The {worst} worst pictures beside their truth: {layout.worst}")


def warn_of_untrained(lake: Lake, source: str, report: Report) -> None:
    """Say which current annotators of a source have random weights; nothing when none has."""
    with Snapshot.take(lake).connect() as connection:
        untrained = [stage for (stage,) in connection.execute(_UNTRAINED, [source]).fetchall()]
    if untrained:
        report.line(
            f"ATTENTION: the annotators of {', '.join(untrained)} are UNTRAINED (random weights): "
            "what they say has the right form and means nothing.",
            "bold yellow",
        )


def _by_size(urls: Mapping[str, int]) -> list[tuple[str, int]]:
    """ok, duplicate, then the failures, most frequent first."""
    first = ("ok", "duplicate")
    failed = sorted((item for item in urls.items() if item[0] not in first), key=lambda item: (-item[1], item[0]))
    return [(name, urls.get(name, 0)) for name in first] + [(f"failed/{name}", number) for name, number in failed]


def _value(row: tuple[Any, ...] | None) -> int:
    return int(row[0]) if row else 0
