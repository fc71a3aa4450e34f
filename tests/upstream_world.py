"""A lake, a project's catalog and small checkpoints in upstream's own files, driven by the real commands."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import upstream_files as files
from handmade import Handmade, Picture

from etl.cli.main import main
from etl.lake import Lake, Snapshot
from etl.models.checkpoints import groundingdino
from etl.settings import Settings

TAGS = ("cat", "dog", "rubik's cube", "x-ray", "3D glasses", *(f"thing number {number}" for number in range(35)))
OFF = "dog"  # its threshold is 1
LIMITS = {tag: 1.0 if tag == OFF else round(0.45 + 0.0075 * number, 4) for number, tag in enumerate(TAGS)}
BOXES = {"box_threshold": 0.3, "text_threshold": 0.0, "nms_iou": 0.9, "max_boxes": 5}
SENTENCES = {"beams": 2, "max_new_tokens": 5}
WEIGHTS = {
    "small-ram": "ram",
    "small-ram-plus": "ram-plus",
    "small-tag2text": "tag2text",
    "small-dino": "groundingdino",
    "small-sam": "sam",
    "small-sam-hq": "sam-hq",
    "small-blip2": "blip2",
    "small-clip": "clip-text",
}
# The stage of each model, the weights of its networks, and its options.
MODELS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "ram": ("tag", {"tagger": "small-ram"}, {}),
    "ram-plus": ("tag", {"tagger": "small-ram-plus"}, {"quantile": 0.9}),
    "hq": ("ground", {"detector": "small-dino", "segmenter": "small-sam-hq"}, BOXES),
    "plain": ("ground", {"detector": "small-dino", "segmenter": "small-sam"}, {**BOXES, "prompt_style": "joined"}),
    "blip2": ("caption", {"captioner": "small-blip2"}, SENTENCES),
    "tag2text": ("caption", {"captioner": "small-tag2text"}, SENTENCES),
    "clip": ("embed", {"encoder": "small-clip"}, {}),
    "clip-half": ("embed", {"encoder": "small-clip"}, {}),
}
DTYPES = {"clip-half": "bfloat16"}  # the others: float32


def write_files(root: Path) -> dict[str, Path]:
    """The folder of each checkpoint, by the name of its weights."""
    return {
        "small-ram": files.write_tagger_files(root / "ram", "ram", TAGS, list(LIMITS.values())),
        "small-ram-plus": files.write_tagger_files(root / "ram-plus", "ram-plus", TAGS),
        "small-tag2text": files.write_tagger_files(root / "tag2text", "tag2text", TAGS),
        "small-dino": files.write_groundingdino_files(root / "dino", ["cat", "dog", "thing", "number"]),
        "small-sam": files.write_sam_files(root / "sam", "sam"),
        "small-sam-hq": files.write_sam_files(root / "sam-hq", "sam-hq"),
        "small-blip2": files.write_blip2_files(root / "blip2", "t5"),
        "small-clip": files.write_clip_files(root / "clip"),
    }


def write_catalog(folder: Path, given: Mapping[str, Path], **fields: Any) -> Path:
    """A catalog of weights and models; ``fields`` are further ones of every model, such as ``batch_size``."""
    for kind in ("weights", "models"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, place in given.items():
        listed = [{"name": path.name, "url": f"https://example.test/{path.name}"} for path in sorted(place.iterdir())]
        entry = {"family": WEIGHTS[name], "licence": "none", "files": listed}
        (folder / "weights" / f"{name}.yaml").write_text(json.dumps(entry))  # JSON is YAML
    for name, (stage, networks, options) in MODELS.items():
        used = {role: {"family": WEIGHTS[one], "weights": f"catalog:{one}"} for role, one in networks.items()}
        model = {"stage": stage, "untrained": True, "networks": used, "options": options}
        model |= {"dtype": DTYPES.get(name, "float32"), **fields}
        (folder / "models" / f"{name}.yaml").write_text(json.dumps(model))
    return folder


def model_arguments(*names: str) -> list[str]:
    """``--model`` for each of these models."""
    return [word for name in names for word in ("--model", f"{MODELS[name][0]}={name}")]


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def place(lake: Path, catalog: Path, scratch: Path, **settings: object) -> Iterator[pytest.MonkeyPatch]:
    """Commands in this process find this lake and catalog meanwhile, compute on the CPU, and have a wide terminal."""
    with pytest.MonkeyPatch.context() as patch:
        given = {"lake": lake, "catalog": catalog, "scratch": scratch, "device": "cpu", **settings}
        for name, value in given.items():
            patch.setenv(f"GROUNDLAKE_{name.upper()}", str(value))
        patch.setenv("COLUMNS", "200")
        patch.setenv("OMP_NUM_THREADS", "1")  # the last bits of answers are promised for one number of threads
        # At upstream's own size GroundingDINO would take a hundred times as long; all else is as upstream has it.
        patch.setitem(groundingdino.PREPROCESSOR, "size", {"shortest_edge": 80, "longest_edge": 144})
        yield patch


def command(*arguments: object) -> Ran:
    """Run ``groundlake`` in this process."""
    printed, said = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", ["groundlake", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, printed.getvalue(), said.getvalue())


def make_lake(folder: Path, models: Path | None, *shards: Sequence[Picture]) -> Lake:
    """A lake with these pictures, a shard each group, and a copy of the weights of another."""
    lake = Lake.create(str(folder), Settings(scratch=folder.parent / "scratch"))
    if models is not None:
        shutil.copytree(models, folder / "models")
    hand = Handmade(lake)
    for pictures in shards:
        hand.add(*pictures)
    return lake


def shown(lake: Lake, table: str) -> list[dict[str, Any]]:
    """What a view shows, without what may differ between two runs of the same, in one order."""
    with Snapshot.take(lake).connect() as connection:
        rows: list[dict[str, Any]] = connection.sql(f"select * from {table}").to_arrow_table().to_pylist()
    for row in rows:
        for column in ("unit", "shard_id", "seconds", "requested_at"):
            row.pop(column, None)
    return sorted(rows, key=repr)


def raw(lake: Lake, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    with Snapshot.take(lake).connect() as connection:
        rows: list[dict[str, Any]] = connection.sql(f"select * from raw.{table}").to_arrow_table().to_pylist()
    return rows
