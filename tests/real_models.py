"""Real networks at the small size that the package carries, and pictures of the world they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from etl.models.load import packaged_folder
from etl.models.store import ModelStore
from etl.settings import load_catalog
from etl.shapes.world.scene import Scene
from etl.shapes.world.splits import numbered_scene
from etl.stages.contract import Stage, WorkItem
from etl.stages.registry import stage_class
from etl.storage import LocalStore

FAMILIES = ("ram", "groundingdino", "sam", "blip2", "clip-text")


def scene(seed: int, width: int = 200, height: int = 150) -> Scene:
    """A held-out scene of up to four shapes."""
    return numbered_scene("test", seed, size=(width, height), count=4)


def picture(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """What a scene looks like."""
    return Image.fromarray(scene(seed, width, height).pixels)


def item(seed: int, width: int = 200, height: int = 150, **upstream: list[dict[str, Any]]) -> WorkItem:
    """A work item with the picture of a scene and upstream rows."""
    return WorkItem(f"{seed:032d}", "shard", width, height, picture(seed, width, height), upstream)


def packaged() -> dict[str, Path]:
    """The folder of the network of each family that the package carries; not to be changed."""
    networks = [network for model in load_catalog().models.values() for network in model.networks.values()]
    return {one.family: packaged_folder(one) for one in networks if one.weights.startswith("packaged:")}


def model_store(root: Path) -> ModelStore:
    """A model store in a folder."""
    return ModelStore(LocalStore(root / "lake"), root / "cache")


def loaded_stage(name: str, root: Path, **options: Any) -> Stage:
    """A stage of the shipped catalog with its networks loaded; ``options`` replace the catalog's."""
    entry = load_catalog().model(name)
    stage = stage_class(name)(entry.model_copy(update={"options": {**entry.options, **options}}))
    stage.load(model_store(root), "cpu")
    return stage
