"""Folders of weights: what must be in one. No import of torch here: a stage with nothing to do never pays for it.

A folder holds ``config.json`` with the ``model_type`` of its family, ``*.safetensors``, and what the family's pre- and
post-processing needs (``preprocessor_config.json``, a tokenizer). Pickles are never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError
from etl.models.families import FAMILIES

MODEL_TYPES = {name: family.model_type for name, family in FAMILIES.items()}


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON mapping of a folder of weights; raises ConfigurationError when it is missing or not a mapping."""
    try:
        content = json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the weights folder {folder} has no readable {name}: {error}",
            remedy="give a folder with config.json, *.safetensors, the preprocessor and tokenizer files",
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{folder / name}: expected a mapping of keys, got {type(content).__name__}")
    return content


def check_folder(folder: Path, family: str) -> dict[str, Any]:
    """The ``config.json`` of a folder of weights.

    Raises:
        ConfigurationError: The folder is missing, holds no safetensors, or another family's weights.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"the weights folder {folder} does not exist", remedy="correct 'weights' in the catalog"
        )
    config = read_json(folder, "config.json")
    found, expected = config.get("model_type"), MODEL_TYPES[family]
    if found != expected:
        raise ConfigurationError(
            f"{folder} holds weights of model_type {found!r}; family {family!r} needs {expected!r}",
            remedy="name the folder of the right network, or correct 'family' in the catalog",
        )
    if not any(folder.glob("*.safetensors")):
        raise ConfigurationError(
            f"{folder} holds no *.safetensors", remedy="convert the weights first; pickles (.pth, .bin) are never read"
        )
    return config


def check_keys(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse what transformers would replace by random numbers or ignore; raises ConfigurationError."""
    for kind, text in (
        ("missing_keys", "lack"),
        ("unexpected_keys", "have the unknown"),
        ("mismatched_keys", "have with another shape"),
    ):
        keys = sorted(str(key) for key in info.get(kind) or ())
        if keys:
            listed = ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "")
            raise ConfigurationError(
                f"the weights in {folder} {text} {len(keys)} keys: {listed}",
                remedy="give the whole checkpoint of the network that config.json describes",
            )
