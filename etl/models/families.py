"""The families of networks: what each does, how its folder is marked, and the class that loads it.

A stage never names a class: it opens the family that its catalog entry names, for the task that its role is. No import
of torch here; a family's module is imported when its first network is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError, UnknownNameError
from etl.models.contracts import Task


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Attributes:
        name: As the catalog names it.
        task: What it is for; its loader fulfils that task's protocol of ``etl.models.contracts``.
        model_type: ``model_type`` of its folders' ``config.json``.
        loader: ``module:Class``, called with the folder, the device and the dtype.
        also: Loaders of further tasks that the same folder serves.
    """

    name: str
    task: Task
    model_type: str
    loader: str
    also: Mapping[Task, str] = field(default_factory=dict)

    @property
    def loaders(self) -> dict[Task, str]:
        """The loader of every task the family does."""
        return {self.task: self.loader, **self.also}


_ALL = (
    Family("ram", "tagger", "ram", "etl.models.ram:Tagger"),
    Family("ram-plus", "tagger", "ram-plus", "etl.models.ram_plus:Tagger"),
    Family(
        "tag2text",
        "tagger",
        "tag2text",
        "etl.models.tag2text:Tagger",
        {"captioner": "etl.models.tag2text_captions:Captioner"},
    ),
    Family("groundingdino", "grounder", "grounding-dino", "etl.models.grounding_dino:Detector"),
    Family("sam", "segmenter", "sam", "etl.models.sam:Segmenter"),
    Family("sam-hq", "segmenter", "sam_hq", "etl.models.sam_hq:Segmenter"),
    Family("blip2", "captioner", "blip-2", "etl.models.blip2:Captioner"),
    Family("qwen-vl", "captioner", "qwen3_vl", "etl.models.qwen_vl:Captioner"),
    Family(
        "clip-text",
        "embedder",
        "clip_text_model",
        "etl.models.clip_text:TextEncoder",
        {"label-encoder": "etl.models.open_set:LabelEncoder"},
    ),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}


def open_network(family: str, task: str, folder: Path, device: str, dtype: str, **switches: Any) -> Any:
    """The network of a folder of weights, ready for inference.

    Args:
        family: A name of ``FAMILIES``.
        task: What the caller needs it for.
        folder: The folder of weights.
        device: ``cpu`` or ``cuda:N``.
        dtype: ``float32`` or ``bfloat16``.
        switches: ``attention`` and ``compiled``, where they differ from what a loader does by itself.

    Returns:
        An object that fulfils the task's protocol of ``etl.models.contracts``.

    Raises:
        ConfigurationError: The family is unknown or does another task or lacks a switch, or the folder is wrong or not
            whole.
    """
    found = FAMILIES.get(family)
    if found is None:
        raise UnknownNameError("family of networks", family, list(FAMILIES))
    loader = {str(name): place for name, place in found.loaders.items()}.get(task)
    if loader is None:
        able = sorted(name for name, other in FAMILIES.items() if task in other.loaders)
        raise ConfigurationError(
            f"family {family!r} is a {' and '.join(found.loaders)}, but a {task} is needed",
            remedy=f"give this role a network of the family {' or '.join(able)}",
        )
    module, _, name = loader.partition(":")
    opened = getattr(import_module(module), name)
    lacking = sorted(switches.keys() - signature(opened).parameters.keys())
    if lacking:
        raise ConfigurationError(
            f"networks of the family {family!r} have no switch {' and '.join(lacking)}",
            remedy="leave 'attention' and 'compile' out of the model's file",
        )
    return opened(folder, device, dtype, **switches)
