"""``groundlake truth``: what people say about pictures, beside what networks say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import LakeOption, folding_table, open_context, out
from etl.cli.progress import counted
from etl.errors import DataError

if TYPE_CHECKING:
    from etl.truth.landing import Landed
    from etl.truth.model import Truth

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Ground truth of datasets, to measure annotators against."
)
SHORT = 12  # of an annotator id, where it is read by people


@app.command("add")
def add(
    name: Annotated[str, typer.Option("--name", help="Name of the dataset, such as coco-val2017.")],
    source: Annotated[str, typer.Option("--source", help="The source that its pictures were ingested as.")],
    instances: Annotated[
        Path, typer.Option("--instances", metavar="FILE", help="COCO instances: images, annotations, categories.")
    ],
    captions: Annotated[
        Path | None, typer.Option("--captions", metavar="FILE", help="COCO captions of the same images.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Land the truth about pictures of the lake. It gets annotators of its own: for tags, for boxes, for captions.

    Pictures are found by their **coco_url**, spelled as in the list of urls they were ingested from, or by
    **groundlake_image_id**. Ingest first; after more was ingested the same command lands the rest, and only that.

    Tags are the image's **tags** where it has them, else its categories. Boxes without a segmentation get a mask
    without a pixel (mask_area 0). Crowds count as tags, and are no instances. Of several captions the first is taken.
    An image of which one annotation is wrong fails, in all stages, and says which one:
    `select image_id, reason, error from all_outcomes where status = 'failed'`.

    Truth shows in the views **all_tags**, **all_instances**, **all_captions** and **all_outcomes**. The plain views,
    which manifests read, show it once a person promotes it: `groundlake models promote`. Other files under the same
    name are another annotator.

    A file is read as a whole: one of 100 MB takes about 0.8 GB of memory. Stopped or killed, run it again.
    Exit codes: 0 done, 75 try again, 65 bad data (also when every image failed), 78 bad configuration.

    For example:

        groundlake truth add --name coco-val2017 --source coco --instances instances_val2017.json

        groundlake truth add --name coco-val2017 --source coco --instances instances_val2017.json
        --captions captions_val2017.json
    """
    import time
    import uuid

    from etl.truth.coco import read_coco
    from etl.truth.landing import land_truth

    context = open_context(lake)
    truth = read_coco(instances, captions)
    request = f"truth-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
    with _watching() as progress:
        landed = land_truth(context.lake, truth, name=name, source=source, request=request, progress=progress)
    _show(truth, landed)
    _refuse_all_failed(landed)


@app.command("list")
def list_datasets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, lake: LakeOption = None
) -> None:
    """The datasets whose truth is in the lake, and their annotators.

    For example:

        groundlake truth list
    """
    from etl.lake import Snapshot
    from etl.truth.listing import list_truths

    found = list_truths(Snapshot.take(open_context(lake, reading=True).lake))
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "landed_at": one.landed_at.isoformat()} for one in found]))
        return
    if not found:
        out.print("no truth yet; next: groundlake truth add --name NAME --source SOURCE --instances FILE", markup=False)
        return
    table = folding_table("name", "files", "stages", "images", "instances", "landed", "current for")
    for one in found:
        stages = "\n".join(f"{stage} {annotator[:SHORT]}" for stage, annotator in one.annotators.items())
        shown = "\n".join(f"{stage} of {', '.join(sources)}" for stage, sources in one.current_for.items()) or "-"
        landed = one.landed_at.strftime("%Y-%m-%d %H:%M UTC")
        table.add_row(one.name, one.sha256[:SHORT], stages, str(one.images), str(one.instances), landed, shown)
    out.print(table)


@contextmanager
def _watching() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage on a terminal; elsewhere lines."""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                stack.close()  # the bar of the stage before
                bars[stage] = stack.enter_context(counted(f"truth, {stage}", "images"))
            bars[stage](done, total)

        yield tell


def _show(truth: Truth, landed: Landed) -> None:
    found = landed.matches
    where = f"{found.found} in the lake + {found.absent} not in the lake + {found.taken_down} taken down"
    out.print(f"{landed.name}: {len(truth.images)} images in the file = {where}", markup=False)
    without = f"{found.without_truth} pictures of it are not in the file"
    same = "" if found.found == found.pictures else f" ({found.pictures} different pictures)"
    out.print(f"source {landed.source}: {found.pictures} pictures have truth{same}, {without}", markup=False)
    for count, what in (
        (truth.crowds, "crowds: tags, but no instances"),
        (truth.further_captions, "further captions of images that have one: not taken"),
        (truth.strays, "annotations of no image of the file: left out"),
    ):
        if count:
            out.print(f"  {count} {what}", markup=False)
    table = folding_table("stage", "annotator", "pictures", "ok", "empty", "failed", "pending", "new")
    for one in landed.stages:
        failed, empty = (_reasons(one.counts, status) for status in ("failed", "empty"))
        numbers = (str(found.pictures), str(one.ok), empty, failed, str(one.pending), str(one.new))
        table.add_row(one.stage, one.annotator_id[:SHORT], *numbers)
    out.print(table)
    if not landed.new:
        out.print("nothing new: every picture of the file that is in the lake has its truth already", markup=False)
    if any(one.pending for one in landed.stages):
        out.print("pictures came in meanwhile: run it again", markup=False)


def _reasons(counts: Mapping[str, int], status: str) -> str:
    own = {key.partition("/")[2]: count for key, count in counts.items() if key.startswith(f"{status}/")}
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(own.items()))
    return f"{sum(own.values())} ({told})" if own else "0"


def _refuse_all_failed(landed: Landed) -> None:
    for one in landed.stages:
        if one.failed and one.failed == sum(one.counts.values()):
            why = "select image_id, reason, error from all_outcomes where status = 'failed' and annotator_id = "
            raise DataError(
                f"stage {one.stage}: every picture failed: {_reasons(one.counts, 'failed')}",
                remedy=f"see why: groundlake sql \"{why}'{one.annotator_id}'\"",
            )
