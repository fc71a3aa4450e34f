"""Folders of weights: what is checked before and after a network is read from one.

A folder holds ``config.json`` with the ``model_type`` of its family, ``*.safetensors``, and what the family's pre- and
post-processing needs (``preprocessor_config.json``, a tokenizer). Pickles are never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from etl.errors import ConfigurationError

MODEL_TYPES = {
    "ram": "ram",
    "groundingdino": "grounding-dino",
    "sam": "sam",
    "blip2": "blip-2",
    "clip-text": "clip_text_model",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_logging: Any = transformers_logging
_logging.disable_progress_bar()
_logging.set_verbosity_error()  # what it would warn of (missing or surplus keys) is an error here


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
        raise ConfigurationError(f"the weights folder {folder} does not exist", remedy="correct 'file:' in the catalog")
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


def read_network(cls: Any, folder: Path, family: str, device: str, dtype: str) -> Any:
    """A transformers network read from ``folder``, every key of it, ready for inference on ``device``.

    Raises:
        ConfigurationError: The folder is wrong, or keys are missing, surplus or of another shape.
    """
    check_folder(folder, family)
    try:
        network, info = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=DTYPES[dtype],
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with the other keys
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be read: {error}") from error
    check_keys(folder, info)
    return network.to(device).eval()


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


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder of weights; raises ConfigurationError."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"the tokenizer in {folder} cannot be read: {error}") from error
