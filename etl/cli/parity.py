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

    from etl.reference.compare import Parity
    from etl.reference.questions import Question

PICTURES = 3
LIMIT = 1e-5
SMALL, USUAL = (64, 48), (640, 480)  # sizes of the pictures that are drawn where none are given
BOXES = ((0.1, 0.1, 0.6, 0.7), (0.4, 0.3, 0.95, 0.9), (0.0, 0.0, 1.0, 1.0))  # xyxy, shares of a picture
PICTURE_FILES = (".jpg", ".jpeg", ".png", ".webp")
BESIDE_FILES = (".txt", ".json")
SHOWN = 20  # labels that differ


def parity(
    family: Annotated[str, typer.Argument(help="sam, sam-hq, groundingdino, ram, ram-plus or tag2text.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            help="Upstream's file, with its tag lists beside it, or a folder of upstream's files; "
            "else a small network with random weights.",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="Folder with config.json and tokenizer files of bert-base-uncased."),
    ] = None,
    ours: Annotated[
        Path | None,
        typer.Option("--ours", help="Folder of our engine's weights; else the checkpoint is converted for the moment."),
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of images; else drawn ones.")] = None,
    prompt: Annotated[str, typer.Option("--prompt", help="What a grounder is asked for.")] = "red circle . square .",
    limit: Annotated[
        float, typer.Option("--limit", min=0.0, help="Largest difference allowed, as a share of the largest value.")
    ] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run our engine and upstream's own package on the same weights and images; print how far they are apart.

    Both run in float32 on the CPU. Upstream's packages live in an environment of their own: `make reference`. Only
    rounding may differ: a mask's pixel whose logit is 0 but for the limit, a label whose score is as near to its
    threshold.

    Exit codes: 0 they agree, 65 they do not, or the checkpoint is refused, 75 the reference engine died, 78 it is not
    there.

    For example:

        groundlake parity sam

        groundlake parity groundingdino --checkpoint groundingdino_swint_ogc.pth --text bert-base-uncased
    """
    from etl.reference.folders import NEEDED
    from etl.reference.parity import parity as compare

    if family not in NEEDED:
        raise UnknownNameError("family with a reference engine", family, list(NEEDED))
    pictures = _given(images) if images else _drawn(SMALL if checkpoint is None else USUAL)
    with tempfile.TemporaryDirectory(prefix="groundlake-parity-") as name:
        folder = _folder(family, checkpoint, text, Path(name))
        question = _question(family, folder, pictures, prompt)
        found = compare(family, folder, question, Path(name), ours)
    beyond = found.beyond(limit)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "limit": limit, "beyond": beyond}))
    else:
        _show(found)
    if beyond:
        raise DataError(
            f"our engine and upstream's are farther apart than {limit:g}: {'; '.join(beyond)}",
            remedy="convert the checkpoint again; if that does not help, report it with this output",
        )


def _folder(family: str, checkpoint: Path | None, text: Path | None, work: Path) -> Path:
    """A folder of upstream's files: the given one, one of links to given files, or one with random weights."""
    from etl.reference.small import write_random

    if checkpoint is not None and checkpoint.is_dir() and text is None:
        return checkpoint
    folder = work / "upstream"
    folder.mkdir()
    if checkpoint is None:
        write_random(family, folder)
        return folder
    _link(family, checkpoint, text, folder)
    return folder


def _link(family: str, checkpoint: Path, text: Path | None, folder: Path) -> None:
    from etl.reference.folders import NEEDED

    if not checkpoint.is_file():
        raise ConfigurationError(f"{checkpoint} is no file", remedy="name upstream's checkpoint")
    if family == "groundingdino" and (text is None or not (text / "config.json").is_file()):
        raise ConfigurationError(
            "GroundingDINO needs its text encoder's config.json and tokenizer files",
            remedy="name the folder that has them with --text (those of bert-base-uncased)",
        )
    described = [path for path in sorted(text.iterdir()) if path.suffix in BESIDE_FILES] if text else []
    wanted = {name: checkpoint.parent / name for names in NEEDED[family] for name in names}
    wanted |= {path.name: path for path in described}
    # A checkpoint of another suffix gets the one by which the folder is known.
    wanted[f"{checkpoint.stem}.pth"] = checkpoint
    for name, path in wanted.items():
        if path.is_file():
            (folder / name).symlink_to(path.resolve())


def _question(family: str, folder: Path, pictures: list[Image.Image], prompt: str) -> Question:
    import numpy as np

    from etl.reference.questions import Question

    if family == "groundingdino":
        return Question(pictures, prompts=[prompt] * len(pictures))
    if family.startswith("sam"):
        boxes = [np.asarray(BOXES, np.float32) * np.asarray([*one.size, *one.size], np.float32) for one in pictures]
        return Question(pictures, boxes)
    return Question(pictures, captions=family == "tag2text" and (folder / "vocab.txt").is_file())


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
    if found.proposals is not None:
        margin = f", their scores at most {found.proposal_margin:.2g} apart" if found.proposals_apart else ""
        out.print(f"proposals that differ: {found.proposals_apart} of {found.proposals}{margin}", markup=False)
    if found.labels is not None:
        margin = f", at most {found.label_margin:.2g} from their threshold" if found.labels_apart else ""
        out.print(f"labels that differ: {len(found.labels_apart)} of {found.labels}{margin}", markup=False)
        _list(found.labels_apart)
    if found.captions is not None:
        out.print(f"captions that differ: {len(found.captions_apart)} of {found.captions}", markup=False)
        _list(found.captions_apart)


def _list(lines: tuple[str, ...]) -> None:
    for line in [*lines[:SHOWN], *(["…"] if len(lines) > SHOWN else [])]:
        out.print(f"  {line}", markup=False)
