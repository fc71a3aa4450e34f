"""Folders of weights: what must be in one. No import of torch here: a stage with nothing to do never pays for it.

A folder holds ``config.json`` with the ``model_type`` of its family, ``*.safetensors``, and what the family's pre- and
post-processing needs (``preprocessor_config.json``, a tokenizer). Pickles are never read, and a folder that asks for
Python code beside the library's own is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError
from etl.models.families import FAMILIES

MODEL_TYPES = {name: family.model_type for name, family in FAMILIES.items()}
ATTENTIONS = (None, "eager", "sdpa")  # any other name is a package, or a repository whose code would be fetched and run
PLAIN = "take the network as its authors publish it for transformers, without code of its own and not quantised"


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
        ConfigurationError: The folder is missing, holds no safetensors or another family's weights, or asks for code.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"the weights folder {folder} does not exist", remedy="correct 'weights' in the catalog"
        )
    config = read_json(folder, "config.json")
    words = foreign(config)
    if words:
        raise ConfigurationError(f"{folder}/config.json {words}; nothing of it was run", remedy=PLAIN)
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


def foreign(content: object) -> str | None:
    """What a configuration asks for beside the network of its family, in words; None when there is nothing.

    Code of its own (``auto_map``), an attention from elsewhere, or numbers that only another library understands. Parts
    of it are looked at too: each has a configuration of its own.
    """
    if not isinstance(content, Mapping):
        return None
    if content.get("auto_map"):
        return "asks for Python code of its own ('auto_map')"
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        value = content.get(key)
        if not isinstance(value, dict) and value not in ATTENTIONS:
            return f"asks for code from elsewhere ({key!r}: {value!r})"
    if content.get("quantization_config"):
        return "is that of quantised weights ('quantization_config')"
    return next((words for part in content.values() if (words := foreign(part))), None)


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
