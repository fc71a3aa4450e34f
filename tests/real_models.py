"""Real networks at their small, untrained size, and pictures for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from etl.models.store import ModelStore
from etl.settings import load_catalog
from etl.stages.contract import Stage, WorkItem
from etl.stages.registry import stage_class
from etl.storage import LocalStore

FAMILIES = ("ram", "groundingdino", "sam", "blip2", "clip-text")


def picture(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """A smooth picture of random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def item(seed: int, width: int = 200, height: int = 150, **upstream: list[dict[str, Any]]) -> WorkItem:
    """A work item with a picture and upstream rows."""
    return WorkItem(f"{seed:032d}", "shard", width, height, picture(seed, width, height), upstream)


def model_store(root: Path) -> ModelStore:
    """A model store in a folder."""
    return ModelStore(LocalStore(root / "lake"), root / "cache")


def loaded_stage(name: str, root: Path, **options: Any) -> Stage:
    """A stage of the shipped catalog with its untrained networks loaded; ``options`` replace the catalog's."""
    entry = load_catalog().model(name)
    stage = stage_class(name)(entry.model_copy(update={"options": {**entry.options, **options}}))
    stage.load(model_store(root), "cpu")
    return stage
