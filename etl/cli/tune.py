"""``groundlake models tune``: the batch that a model does best with on the device at hand."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import Context, LakeOption, catalog_folder, err, folding_table, open_context, out
from etl.cli.stage import DeviceOption, words
from etl.cli.weights import model_store, size_text
from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import ModelEntry

if TYPE_CHECKING:
    from etl.settings.catalog_files import Written
    from etl.stages.tune import Step, Tuning

SMALLEST = 64  # pixels of a side that can be asked for


def tune(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="The model; else the stage's default.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="tag, ground, caption or embed.")] = None,
    device: DeviceOption = None,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="The largest batch to try.")] = 256,
    size: Annotated[str, typer.Option("--size", help="Width and height of the drawn pictures.")] = "640x480",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure only, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Measure batches of 1, 2, 4 … on the device at hand and write the best one into the project's catalog.

    The model's stage runs over drawn pictures, as it would over real ones. The smallest batch within 5 % of the best
    rate is taken that leaves 20 % of the memory free, and stands under `batch_sizes` of the model's file from then on,
    for this kind of device. Results stay those of the same annotator.

    For example:

        groundlake models tune ram-swin-large

        groundlake models tune --stage ground --device cpu --dry-run
    """
    from etl.stages.tune import tune as measure

    context = open_context(lake)
    entry = _entry(context, model, stage)
    folder = catalog_folder(context.settings)
    if folder is None and not dry_run:
        raise ConfigurationError(
            "there is no catalog folder of your own to write the batch size into",
            remedy="write 'catalog: catalog' into groundlake.yaml and make that folder, or set GROUNDLAKE_CATALOG, "
            "or pass --dry-run",
        )
    found = measure(
        entry,
        model_store(context),
        device or context.settings.device,
        max_batch=max_batch,
        size=_size(size),
        watch=_say_step,
    )
    written = _write(folder, found) if folder is not None and not dry_run else None
    if as_json:
        file = str(written.file) if written else None
        typer.echo(json.dumps(dataclasses.asdict(found) | {"file": file}))
    else:
        _show(found, written)


def _entry(context: Context, model: str | None, stage: str | None) -> ModelEntry:
    if stage is not None:
        from etl.stages.planning import ordered_stages

        (known,) = ordered_stages([stage])
        return context.catalog.model(known, model)
    if model is None:
        raise ConfigurationError("no model is named", remedy="name one, or pass --stage for the stage's default")
    if model not in context.catalog.models:
        raise UnknownNameError("model", model, list(context.catalog.models))
    return context.catalog.models[model]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or min(int(found[1]), int(found[2])) < SMALLEST:
        raise ConfigurationError(
            f"--size {text!r}: expected width and height in pixels, such as 640x480, none below {SMALLEST}"
        )
    return int(found[1]), int(found[2])


def _write(folder: Path, found: Tuning) -> Written:
    from etl.settings.catalog_files import write_batch_size

    return write_batch_size(folder, found.model, found.kind, found.batch)


def _say_step(step: Step) -> None:
    err.print(f"batch {step.batch}: {step.images_per_second:.3g} images/s, {size_text(step.peak_bytes)}", markup=False)


def _show(found: Tuning, written: Written | None) -> None:
    from etl.stages.tune import NEAR, RESERVE

    table = folding_table("batch", "images/s", "of the best", "peak memory", "of the device")
    for step in found.steps:
        shares = step.images_per_second / found.best, step.peak_bytes / found.memory_bytes
        rate, memory = f"{step.images_per_second:.3g}", size_text(step.peak_bytes)
        table.add_row(str(step.batch), rate, f"{shares[0]:.0%}", memory, f"{shares[1]:.0%}")
    out.print(f"{found.model} ({found.stage}) on {found.kind}, drawn pictures: {words(found.answers)}", markup=False)
    out.print(table)
    out.print(f"no larger batch was tried: {found.ended}", markup=False)
    if found.flat and (found.kind, found.dtype) == ("cpu", "float32"):
        out.print(
            "the rate hardly changes with the batch: in float32 on a CPU networks see one picture at a time, so that "
            "no answer depends on the batch",
            markup=False,
        )
    why = f"the smallest within {1 - NEAR:.0%} of the best rate of those that leave {RESERVE:.0%}"
    if not found.leaves_reserve:
        why = f"the smallest there is, though it does not leave {RESERVE:.0%}"
    out.print(f"batch {found.batch}: {why} of {size_text(found.memory_bytes)} free", markup=False)
    if written is None:
        out.print("nothing was written", markup=False)
        return
    copied = ", a copy of the shipped file that goes before it from now on" if written.copied else ""
    out.print(f"batch_sizes of {written.file}{copied}: {found.kind}: {found.batch}", markup=False)
