"""``groundlake manifest``: from SQL to a folder a trainer reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import Context, LakeOption, open_context, out
from etl.cli.progress import counted
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from etl.manifests.builder import BuiltManifest
    from etl.settings import ManifestSpec

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Build training manifests from SQL.")


@app.command("build")
def build(
    name: Annotated[str | None, typer.Argument(help="A manifest of the catalog.")] = None,
    sql: Annotated[str | None, typer.Option("--sql", help="One SELECT that yields image_id.")] = None,
    fmt: Annotated[str | None, typer.Option("--format", help="instancediffusion, meta_json, coco or jsonl.")] = None,
    new_name: Annotated[str, typer.Option("--name", help="Name of a manifest given by --sql.")] = "adhoc",
    folder: Annotated[
        Path | None, typer.Option("--out", help="Make <name>/<version> here; else in manifests/ of the lake.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="Option of the format, as key=value.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Shares of the images, as train=0.9,val=0.1.")] = None,
    lake: LakeOption = None,
) -> None:
    """Build a manifest of the catalog, or one given by its SQL. The same rows make the same version.

    The SQL may also yield instance_id, to choose objects, and caption, to give images another caption.

    For example:

        groundlake manifest build coco-all

        groundlake manifest build --format coco --out data --split train=0.9,val=0.1
        --sql "select image_id from instances where label = 'dog' and score > 0.4"

        groundlake manifest build --format instancediffusion --out data --option image_caption=generated_first
        --sql "select image_id from images where least(width, height) >= 256"
    """
    from etl.manifests.builder import build_manifest

    context = open_context(lake)
    spec = _spec(context, name, sql, fmt, new_name, option or [], split)
    with counted(spec.name, "images") as progress:
        built = build_manifest(context.lake, spec, folder, progress=progress)
    _show(built)


@app.command("list")
def list_manifests(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, lake: LakeOption = None
) -> None:
    """The manifests of the catalog, and every version that was built.

    For example:

        groundlake manifest list
    """
    from etl.lake import Snapshot

    context = open_context(lake, reading=True)
    query = """select name, version, format, n_images, n_annotations, strftime(built_at, '%Y-%m-%d %H:%M') as built_at,
        path from manifests order by manifests.built_at"""
    with Snapshot.take(context.lake).connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(query).to_arrow_table().to_pylist()
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for spec in context.catalog.manifests.values():
        out.print(f"in the catalog: {spec.name} ({spec.format}): {' '.join(spec.sql.split())}", markup=False)
    if not rows:
        out.print("none was built yet; next: groundlake manifest build NAME, or --sql and --format")
        return
    for row in rows:
        counts = f"{row['n_images']} images, {row['n_annotations']} annotations, {row['built_at']} UTC"
        out.print(f"built: {row['name']} ({row['format']}): {counts}\n  {row['path']}", markup=False)


def _spec(
    context: Context,
    name: str | None,
    sql: str | None,
    fmt: str | None,
    new_name: str,
    options: Sequence[str],
    split: str | None,
) -> ManifestSpec:
    from etl.manifests.formats import FORMATS
    from etl.settings import ManifestSpec
    from etl.settings.catalog import validated

    if (name is None) == (sql is None):
        raise ConfigurationError(
            "name a manifest of the catalog, or give --sql (one of the two)",
            remedy="groundlake manifest list, or: groundlake manifest build --sql 'select …' --format coco --out data",
        )
    if name is not None:
        content = context.catalog.manifest(name).model_dump()
        content["format"] = fmt or content["format"]
    elif fmt is None:
        raise ConfigurationError("--format is missing", remedy=f"choose one of {', '.join(FORMATS)}")
    else:
        content = {"name": new_name, "sql": sql, "format": fmt, "options": {}, "on_new_annotations": False}
    content["options"] = {**content["options"], **dict(_pair(text, "--option") for text in options)}
    if split:
        shares = [_pair(text, "--split") for text in split.split(",")]
        content["split"] = {**content.get("split", {}), "shares": dict(shares)}
    return validated(ManifestSpec, content, "the manifest")


def _pair(text: str, flag: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise ConfigurationError(f"{flag} {text!r}: expected key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{flag} {text!r}: the value is not valid: {error}") from error


def _show(built: BuiltManifest) -> None:
    lock = built.lock
    out.print(f"{'built' if built.built else 'already built'}: {built.folder}", markup=False)
    by_split = ", ".join(f"{split} {n}" for split, n in lock["counts"]["images"].items())
    out.print(f"  {built.images} images ({by_split}), {built.annotations} annotations")
    selection = lock["selection"]
    lost = {name: selection.get(name, 0) for name in ("images_unknown", "images_taken_down", "instances_unknown")}
    for reason, count in {**built.dropped, **lost}.items():
        if count:
            out.print(f"  not in it: {count} {reason.replace('_', ' ')}")
    for note, count in lock["counts"]["notes"].items():
        if count:
            out.print(f"  note: {count} {note.replace('_', ' ')}")
    untrained = [one["stage"] for one in lock["annotators"] if one["untrained"]]
    if untrained:
        out.print(f"  [bold yellow]untrained weights[/] in {', '.join(untrained)}: the answers mean nothing")
