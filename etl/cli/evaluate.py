"""``groundlake eval``: how right the annotators are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import LakeOption, err, folding_table, open_context, out
from etl.cli.progress import counted
from etl.errors import ConfigurationError, DataError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import Console

    from etl.evaluate.evaluation import Evaluation


def evaluate(
    truth: Annotated[
        str, typer.Option("--truth", help="Dataset that was landed, or annotator ids; several with commas between.")
    ],
    source: Annotated[str | None, typer.Option("--source", help="Only images of this source.")] = None,
    annotator: Annotated[
        list[str] | None,
        typer.Option("--annotator", help="Score this one: id or unique beginning; else the current one of each stage."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="YAML file: names of their labels in the truth, groups of tags.")
    ] = None,
    as_json: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write all scores as JSON.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the images that went worst, beside their truth: a PNG.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=60, help="Images on the picture at most.")] = 6,
    minimum: Annotated[
        list[str] | None, typer.Option("--min", metavar="SCORE=VALUE", help="Exit 65 when this score is lower.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Score tags, boxes, masks and captions against a truth in the lake. Nothing is changed.

    Tags: micro precision, recall and F1. Boxes: COCO's average precision, over IoU .50 to .95 (ap), at .50 and at .75.
    Masks: mean IoU of instances matched by their boxes, and COCO's ap. Captions, of instances and of whole images:
    share with exactly the words of the truth, and F1 of the words. Images without an answer count as without
    predictions.

    A class map renames labels of the annotators, and names groups of tags to be scored apart too:

        classes: {person: human, grass: null}    # null: neither right nor wrong

        groups: {animals: [cat, dog]}

        others: keep                             # or ignore: labels that are not named count for nothing

    For example:

        groundlake eval --truth coco-val --source val

        groundlake eval --truth coco-val --annotator 9b2e41 --classes ram-to-coco.yaml --picture worst.png

        groundlake eval --truth coco-val --min tags.f1=0.95 --min boxes.ap50=0.9 --json scores.json
    """
    from etl.evaluate.classes import ClassMap
    from etl.evaluate.evaluation import evaluate as score

    least = dict(_least(text) for text in minimum or ())
    names = ClassMap.read(classes) if classes else None
    context = open_context(lake, reading=True)
    with counted("eval", "images") as progress:
        found = score(
            context.lake, truth=truth, source=source, annotators=annotator or (), classes=names, progress=progress
        )
    console = err if as_json == "-" else out
    _show(found, console)
    if as_json:
        _write(found, as_json)
    if picture:
        from etl.evaluate.picture import draw_worst

        drawn = draw_worst(context.lake, found, picture, limit)
        console.print(f"{drawn} worst images: {picture.resolve()}", markup=False)
    _check(found, least)


def _least(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name.strip() or not equals or not math.isfinite(number):
        raise ConfigurationError(f"--min {text!r}: expected SCORE=VALUE", remedy="for example: --min boxes.ap50=0.9")
    return name.strip(), number


def _show(found: Evaluation, console: Console) -> None:
    for stage in found.chosen.stages:
        who, right = found.chosen.predicted[stage], found.chosen.truth[stage]
        untrained = " [bold red]untrained weights[/]" if who.untrained else ""
        console.print(f"{stage}: {_named(who)}{untrained} against {_named(right)}")
    table = folding_table("what", "score", "value", "over", title=f"{found.images.evaluated} images")
    for column in (2, 3):
        table.columns[column].justify = "right"
    for line in found.lines():
        table.add_row(line.what, line.score, "-" if line.value is None else f"{line.value:.4f}", str(line.n))
    console.print(table)
    for note in found.notes:
        console.print(f"  {note}", markup=False)


def _named(one: Any) -> str:
    from rich.markup import escape

    return escape(f"{one.model} {one.annotator_id[:12]}")


def _write(found: Evaluation, file: str) -> None:
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    if file == "-":
        typer.echo(text)
        return
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error}", remedy="choose another --json") from error
    out.print(f"scores: {path.resolve()}", markup=False)


def _check(found: Evaluation, least: Mapping[str, float]) -> None:
    """Compare scores with the least they may be; whatever has a number in the JSON can be named.

    Raises:
        UnknownNameError: There is no such score.
        DataError: A score is lower, or has no value.
    """
    values = dict(_numbers(found.to_json(), ()))
    short = []
    for name, bound in least.items():
        if name not in values:
            raise UnknownNameError("score", name, [line.name for line in found.lines()])
        value = values[name]
        if value is None or value < bound:
            short.append(f"{name} is {'without a value' if value is None else f'{value:.4f}'}, expected {bound:g}")
    if short:
        raise DataError("; ".join(short), remedy="look at the images that went worst: --picture worst.png")


def _numbers(content: Mapping[str, Any], path: Sequence[str]) -> Iterator[tuple[str, float | None]]:
    for key, value in content.items():
        here = (*path, key)
        if isinstance(value, dict):
            yield from _numbers(value, here)
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield ".".join(here), value
