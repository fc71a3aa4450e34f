"""Both engines on the same weights and pictures."""

from __future__ import annotations

import json
from pathlib import Path

from etl.models.checkpoints import convert, folder_files
from etl.reference.compare import Parity, compare
from etl.reference.folders import SIZES, check_upstream_folder, text_folder
from etl.reference.ours import our_answers
from etl.reference.questions import Question, upstream_answers

PREPROCESSOR = "preprocessor_config.json"


def converted(family: str, folder: Path, out: Path) -> Path:
    """The folder that our engine reads, made from a folder of upstream's files.

    Args:
        family: The family.
        folder: Upstream's files: see ``etl.reference.folders``.
        out: The folder to be made.

    Raises:
        ConfigurationError: The folder lacks something.
        CheckpointError: Our converter refuses the checkpoint.
    """
    checkpoint = check_upstream_folder(folder, family)
    beside = text_folder(folder) if family == "groundingdino" else folder
    files = {name: path for name, path in folder_files(beside).items() if name != SIZES and path.suffix != ".pth"}
    out.mkdir()
    convert(family, {checkpoint.name: checkpoint, **files}, out)
    if (folder / SIZES).is_file():
        sides = json.loads((folder / SIZES).read_text(encoding="utf-8")).get("sides")
        _set_sides(out / PREPROCESSOR, sides)
    return out


def parity(family: str, folder: Path, question: Question, work: Path, ours: Path | None = None) -> Parity:
    """Ask upstream and us the same, and compare.

    Args:
        family: The family.
        folder: Upstream's files: see ``etl.reference.folders``.
        question: What both are asked.
        work: A folder for the converted checkpoint.
        ours: The folder that our engine reads; None to convert the checkpoint.

    Raises:
        CheckpointError: Our converter refuses the checkpoint.
        ConfigurationError: There is no reference environment, or the folder lacks something.
        DataError: The answers have other shapes: the weights are of two networks.
        UpstreamError: Upstream's code failed.
        WorkerLostError: The worker died.
    """
    own = converted(family, folder, work / "converted") if ours is None else ours
    theirs = upstream_answers(family, folder, question)
    return compare(family, theirs, our_answers(family, own, question, theirs))


def _set_sides(path: Path, sides: list[int] | None) -> None:
    if sides is not None:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["size"] = {"shortest_edge": sides[0], "longest_edge": sides[1]}
        path.write_text(json.dumps(content), encoding="utf-8")
