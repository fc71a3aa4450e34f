"""``groundlake parity``: our engine and upstream's own package on the same weights and images."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import folding_table, out
from etl.errors import ConfigurationError, DataError, UnknownNameError

if TYPE_CHECKING:
    from PIL import Image

    from etl.reference.parity import Parity
    from etl.reference.questions import Question, Weights

PICTURES = 3
SMALL, USUAL = (64, 48), (640, 480)  # sizes of the pictures that are drawn where none are given
BOXES = ((0.1, 0.1, 0.6, 0.7), (0.4, 0.3, 0.95, 0.9), (0.0, 0.0, 1.0, 1.0))  # xyxy, shares of a picture
PICTURE_FILES = (".jpg", ".jpeg", ".png", ".webp")
BESIDE_FILES = (".txt", ".json")


def parity(
    family: Annotated[str, typer.Argument(help="sam, sam-hq or groundingdino.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Upstream's file; else a small network with random weights.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", help="Folder with the text encoder's config.json and tokenizer files.")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of images; else drawn ones.")] = None,
    prompt: Annotated[str, typer.Option("--prompt", help="What a grounder is asked for.")] = "red circle . square .",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run our engine and upstream's own package on the same weights and images; print how far they are apart.

    Both run in float32 on the CPU. Upstream's packages live in an environment of their own: `make reference`.

    For example:

        groundlake parity sam

        groundlake parity groundingdino --checkpoint groundingdino_swint_ogc.pth --text bert-base-uncased
    """
    from etl.reference.parity import parity as compare
    from etl.reference.small import SIZES

    if family not in SIZES:
        raise UnknownNameError("family with a reference engine", family, list(SIZES))
    pictures = _given(images) if images else _drawn(SMALL if checkpoint is None else USUAL)
    with tempfile.TemporaryDirectory(prefix="groundlake-parity-") as name:
        weights, beside = _weights(family, checkpoint, text, Path(name))
        question = _question(family, pictures, prompt, small=checkpoint is None)
        found = compare(family, weights, question, Path(name), beside)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found)))
    else:
        _show(found)


def _weights(family: str, checkpoint: Path | None, text: Path | None, work: Path) -> tuple[Weights, dict[str, Path]]:
    from etl.reference.questions import Weights
    from etl.reference.small import SIZES, write_text_folder

    if checkpoint is None:
        (work / "text").mkdir()
        beside = write_text_folder(work / "text") if family == "groundingdino" else {}
        return Weights(work / "random.pth", work / "text", SIZES[family]), beside
    if not checkpoint.is_file():
        raise ConfigurationError(f"{checkpoint} is no file", remedy="name upstream's checkpoint")
    if family != "groundingdino":
        return Weights(checkpoint.resolve()), {}
    if text is None or not (text / "config.json").is_file():
        raise ConfigurationError(
            "GroundingDINO needs its text encoder's config.json and tokenizer files",
            remedy="name the folder that has them with --text (those of bert-base-uncased)",
        )
    files = {path.name: path for path in sorted(text.iterdir()) if path.suffix in BESIDE_FILES}
    return Weights(checkpoint.resolve(), text.resolve()), files


def _question(family: str, pictures: list[Image.Image], prompt: str, *, small: bool) -> Question:
    import numpy as np

    from etl.reference.questions import Question
    from etl.reference.small import SIDES

    if family == "groundingdino":
        return Question(pictures, (), [prompt] * len(pictures), SIDES if small else None)
    boxes = [np.asarray(BOXES, np.float32) * np.asarray([*one.size, *one.size], np.float32) for one in pictures]
    return Question(pictures, boxes)


def _given(folder: Path) -> list[Image.Image]:
    from PIL import Image

    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_FILES)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(PICTURE_FILES)})")
    try:
        return [Image.open(path).convert("RGB") for path in files]
    except OSError as error:
        raise DataError(f"an image in {folder} cannot be read: {error}") from error


def _drawn(size: tuple[int, int]) -> list[Image.Image]:
    from PIL import Image

    from etl.shapes.world.splits import numbered_scene

    scenes = [numbered_scene("test", seed, size=size, count=3) for seed in range(PICTURES)]
    return [Image.fromarray(scene.pixels) for scene in scenes]


def _show(found: Parity) -> None:
    table = folding_table("what", "largest difference", "of the largest value")
    for one in found.differences:
        table.add_row(one.name, f"{one.largest:.2g}", f"{one.relative:.2g}")
    out.print(f"{found.family}: {found.pictures} pictures, upstream's package and ours", markup=False)
    out.print(table)
    if found.mask_pixels is not None:
        margin = f", their logits at most {found.mask_margin:.2g} of the largest" if found.mask_pixels_apart else ""
        out.print(f"mask pixels that differ: {found.mask_pixels_apart} of {found.mask_pixels}{margin}", markup=False)
    if found.labels is not None:
        out.print(f"labels that differ: {len(found.labels_apart)} of {found.labels}", markup=False)
        for line in found.labels_apart:
            out.print(f"  {line}", markup=False)
