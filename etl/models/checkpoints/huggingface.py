"""Checkpoints in the layout of Hugging Face: what stages read is what was published, once it has been checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from etl.models.checkpoints.errors import (
    AGAIN,
    CheckpointError,
    DamagedCheckpointError,
    NotACheckpointError,
    QuantisedError,
    WrongFamilyError,
    WrongKeysError,
)
from etl.models.checkpoints.keys import Report, Shape
from etl.models.checkpoints.network import POSITION_IDS, Parts, parts
from etl.models.checkpoints.plan import possible
from etl.models.families import FAMILIES
from etl.models.folders import PLAIN, foreign

NUMBERS = ("F32", "F16", "BF16", "F64")  # what safetensors calls those of etl.models.checkpoints.keys
CONFIG, INDEX, WHOLE = "config.json", "model.safetensors.index.json", "model.safetensors"


def take(family: str, files: Mapping[str, Path], out: Path, build: Callable[[Mapping[str, Any]], Any]) -> Report:
    """Check the files of a folder and put links to them into another: its weights may have tens of gigabytes.

    Args:
        family: What it must be.
        files: Paths by their names in the folder.
        out: The other folder.
        build: Makes the network of a ``config.json``.

    Raises:
        CheckpointError: A file is missing or damaged, the network is of another family, or keys are missing, not known
            or of another shape.
    """
    config = read_config(files, family)
    with possible(files[CONFIG], family):
        network = parts(lambda: build(config))
    report = _check(files[CONFIG].parent, family, stored_shapes(files), network)
    for name, path in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    return report


def read_config(files: Mapping[str, Path], family: str) -> dict[str, Any]:
    """The ``config.json`` among files.

    Raises:
        CheckpointError: It is missing, cannot be read, is of another family, or asks for code.
    """
    if CONFIG not in files:
        raise CheckpointError(
            f"{CONFIG} is missing among: {', '.join(files) or 'nothing'}",
            remedy="give all files of the published folder",
        )
    config = read_mapping(files[CONFIG])
    words = foreign(config)
    if words:
        raise NotACheckpointError(f"{files[CONFIG]} {words}; nothing of it was run", remedy=PLAIN)
    found, expected = config.get("model_type"), FAMILIES[family].model_type
    if found == expected:
        return config
    for other in FAMILIES.values():
        if other.model_type == found:
            raise WrongFamilyError(files[CONFIG], family, other.name)
    raise NotACheckpointError(
        f"{files[CONFIG]} is of model_type {found!r}; family {family!r} needs {expected!r}",
        remedy="give the folder of the right network",
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON mapping; raises CheckpointError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(path, f"no readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise NotACheckpointError(f"{path}: expected a mapping of keys, got {type(content).__name__}", remedy=AGAIN)
    return content


def stored_shapes(files: Mapping[str, Path]) -> dict[str, Shape]:
    """Names and shapes of the tensors in all safetensors files; only their headers are read.

    Raises:
        CheckpointError: There are none, a part is missing or damaged, or the index says something else than the parts.
    """
    names = [name for name in files if name.endswith(".safetensors")]
    if not names:
        raise CheckpointError(
            f"no *.safetensors among: {', '.join(files)}",
            remedy="take a revision that has them; pickles (.bin) are not taken as they are",
        )
    held = {name: _header(files[name]) for name in names}
    if INDEX in files:
        _check_index(files[INDEX], held)
    elif names != [WHOLE]:
        raise CheckpointError(f"{', '.join(names)} need {INDEX} beside them", remedy="give it too")
    return {key: shape for shapes in held.values() for key, shape in shapes.items()}


def _header(path: Path) -> dict[str, Shape]:
    try:
        with safe_open(path, framework="pt") as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            kinds = {key: part.get_dtype() for key, part in parts.items() if not re.search(POSITION_IDS, key)}
            shapes = {key: tuple(part.get_shape()) for key, part in parts.items()}
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(path, f"cut short, or its header is damaged: {error}") from error
    for key, kind in kinds.items():
        if kind not in NUMBERS:
            raise QuantisedError(path, key, kind)
    return shapes


def _check_index(index: Path, held: Mapping[str, Mapping[str, Shape]]) -> None:
    """Compare the index with the parts: every key in the part that it names, and nothing else."""
    places = read_mapping(index).get("weight_map")
    if not isinstance(places, dict):
        raise DamagedCheckpointError(index, "without 'weight_map'")
    absent = sorted({str(part) for part in places.values()} - held.keys())
    if absent:
        raise CheckpointError(f"{index} names {', '.join(absent)}, which were not given", remedy="give all parts")
    really = {key: part for part, shapes in held.items() for key in shapes}
    wrong = sorted(str(key) for key, _ in really.items() ^ places.items())
    if wrong:
        listed = ", ".join(dict.fromkeys(wrong[:5]))
        raise DamagedCheckpointError(index, f"not the index of its parts, which differ in {listed}")


def _check(folder: Path, family: str, stored: Mapping[str, Shape], network: Parts) -> Report:
    dropped = {key: "the network reads past it" for key in stored if _any(network.ignored, key)}
    kept = {key: shape for key, shape in stored.items() if key not in dropped}
    tied = {name for group in network.ties if not group.isdisjoint(kept) for name in group}
    missing = [name for name in network.shapes if name not in kept and name not in tied]
    unexpected = [key for key in kept if key not in network.shapes]
    shapes = {
        key: f"{list(shape)} (expected {list(network.shapes[key])})"
        for key, shape in kept.items()
        if shape != network.shapes.get(key, shape)
    }
    if missing or unexpected or shapes:
        raise WrongKeysError(folder, family, missing=missing, unexpected=unexpected, shapes=shapes)
    return Report({key: (key,) for key in kept}, dropped)


def _any(patterns: Sequence[str], key: str) -> bool:
    return any(re.search(pattern, key) for pattern in patterns)
