"""Stages without networks, for tests of the runner only: they paint nothing, they misbehave on demand.

``tag`` names the mean colour of a picture; ``ground`` draws one box per tag. Which images misbehave, and how, is said
by the model's options, so that it is the same in a process that a test starts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco

from etl.settings import Catalog, ModelEntry
from etl.stages import registry
from etl.stages.contract import Result, Stage, StageOptions, WorkItem

INSTALLED = {"tag": "fake_stages:FakeTag", "ground": "fake_stages:FakeGround"}


def install(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Replace the stages of this process by the fakes."""
    for name, place in INSTALLED.items():
        if monkeypatch:
            monkeypatch.setitem(registry._STAGES, name, place)
        else:
            registry._STAGES[name] = place


class FakeOptions(StageOptions):
    word: str = "thing"
    raises: tuple[str, ...] = ()
    breaks_constraint: tuple[str, ...] = ()
    not_json: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    memory: int = 1000
    error: str = "out of memory"
    seconds: float = 0.0


class FakeTag(Stage):
    name = "tag"
    VERSION = 1
    upstream = None
    reads = ()
    tables = ("tags",)
    roles: ClassVar[dict[str, Any]] = {}
    Options = FakeOptions
    loads: ClassVar[list[str]] = []
    seen: ClassVar[list[list[str]]] = []
    pixels: ClassVar[dict[str, Any]] = {}

    def load(self, models: Any, device: str) -> None:
        self.loads.append(device)

    def shape(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        self.seen.append([item.image_id for item in batch])
        time.sleep(self.options.seconds)
        if len(batch) > self.options.memory:
            raise RuntimeError(self.options.error)
        return [self._one(item) for item in batch]

    def _one(self, item: WorkItem) -> Result:
        o = self.options
        self.pixels[item.image_id] = item.picture.resize((1, 1)).getpixel((0, 0))
        assert item.picture.size == (item.width, item.height)
        assert item.picture.mode == "RGB"
        if item.image_id in o.raises:
            raise ValueError("this picture is too much")
        if item.image_id in o.empty:
            return Result("empty", "no_tags", {"tags": [{"tags": []}]})
        if item.image_id in o.fails:
            return Result("failed", "not_finite", {"tags": [{"tags": []}]}, error="NaN", retryable=False)
        tags = [{"tag": o.word, "score": 0.5}]
        value: Any = {o.word} if item.image_id in o.not_json else [o.word]
        row: dict[str, Any] = {"tags": None if item.image_id in o.breaks_constraint else tags}
        return Result("ok", rows={"tags": [row]}, value=value)


class FakeGround(Stage):
    name = "ground"
    VERSION = 1
    upstream = "tag"
    reads = ("tags",)
    tables = ("instances",)
    roles: ClassVar[dict[str, Any]] = {}
    Options = FakeOptions
    needs_pixels = False
    seen: ClassVar[list[WorkItem]] = []

    def load(self, models: Any, device: str) -> None:
        pass

    def skip(self, item: WorkItem) -> Result | None:
        return None if item.upstream["tags"][0]["tags"] else Result("empty", "no_tags")

    def process(self, batch: Sequence[WorkItem]) -> list[Result]:
        self.seen.extend(batch)
        results = []
        for item in batch:
            label = item.upstream["tags"][0]["tags"][0]["tag"]
            beyond = 5 if item.image_id in self.options.breaks_constraint else 0
            row = {"instance_id": item.image_id[:8], "label": label, "phrase": label, "score": 0.5, "area": 1.0}
            row |= {"x1": 0.0, "y1": 0.0, "x2": float(item.width + beyond), "y2": float(item.height)}
            row |= {"mask_counts": _clear(item), "mask_height": item.height, "mask_width": item.width, "mask_area": 0}
            results.append(Result("ok", rows={"instances": [row | {"predicted_iou": 0.9}]}, value=[label]))
        return results


def _clear(item: WorkItem) -> str:
    """The RLE of a mask of the item's size in which nothing is set."""
    counts = coco.encode(np.zeros((item.height, item.width), dtype=np.uint8, order="F"))["counts"]
    return str(counts.decode())


def entry(stage: str = "tag", name: str | None = None, *, batch_size: int = 4, **options: Any) -> ModelEntry:
    """A catalog entry of a fake; options say how it misbehaves."""
    fields = {"name": name or f"fake-{stage}", "stage": stage, "networks": {}, "options": options}
    return ModelEntry(**fields, default=name is None, batch_size=batch_size, untrained=True)


def catalog_of(*entries: ModelEntry) -> Catalog:
    """A catalog with these models; a fake one for each stage that has none."""
    given = {e.stage for e in entries}
    return Catalog(models={e.name: e for e in (*entries, *(entry(s) for s in INSTALLED if s not in given))})


def write_catalog(folder: Path, *entries: ModelEntry) -> Path:
    """The entries as catalog files, for commands; none is a default, since the shipped catalog has those."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for one in entries:
        content = one.model_dump(mode="json") | {"default": False}
        (folder / "models" / f"{one.name}.yaml").write_text(yaml.safe_dump(content))
    return folder
