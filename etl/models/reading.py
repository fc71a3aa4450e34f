"""Reading networks and tokenizers of transformers from folders of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from etl.errors import ConfigurationError
from etl.models.folders import PLAIN, check_folder, check_keys, foreign, read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
# What transformers and tokenizers raise on files that are no tokenizer's.
_NO_TOKENIZER = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError)

_logging: Any = transformers_logging
_logging.disable_progress_bar()
_logging.set_verbosity_error()  # what it would warn of (missing or surplus keys) is an error here


def read_network(cls: Any, folder: Path, family: str, device: str, dtype: str, attention: str | None = None) -> Any:
    """A transformers network read from ``folder``, every key of it, ready for inference on ``device``.

    Args:
        cls: The class of transformers.
        folder: The folder.
        family: What its ``config.json`` must say it is.
        device: ``cpu`` or ``cuda:N``.
        dtype: A name of ``DTYPES``.
        attention: ``sdpa`` or ``eager``; None takes what transformers takes, which is sdpa where the class has it.

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
            attn_implementation=attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with the other keys
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be read: {error}") from error
    check_keys(folder, info)
    return network.to(device).eval()


def stored_keys(folder: Path) -> set[str]:
    """Names of the tensors of a folder, a missing shard's too: it is refused when the weights are read.

    Raises:
        ConfigurationError: A file is unreadable.
    """
    if (folder / INDEX).is_file():
        return set(read_json(folder, INDEX).get("weight_map") or ())
    keys: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                keys.update(tensors.keys())
        except (OSError, SafetensorError) as error:
            raise ConfigurationError(f"the weights in {folder} cannot be read: {file.name}: {error}") from error
    return keys


def read_tokenizer(folder: Path, vocabulary: int, kind: Any = AutoTokenizer) -> Any:
    """The tokenizer of a folder of weights.

    Args:
        folder: The folder.
        vocabulary: Token ids the network knows.
        kind: Its class, where transformers cannot tell it by the folder's ``model_type``.

    Raises:
        ConfigurationError: It is missing, unreadable, asks for code, or has ids beyond the network's.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        # transformers would answer with an empty tokenizer of the kind that fits the network.
        raise ConfigurationError(
            f"{folder} holds no tokenizer: none of {', '.join(TOKENIZER_FILES)}",
            remedy="copy the tokenizer files that belong to the checkpoint into the folder",
        )
    words = foreign(read_json(folder, TOKENIZER_CONFIG)) if (folder / TOKENIZER_CONFIG).is_file() else None
    if words:
        raise ConfigurationError(f"{folder}/{TOKENIZER_CONFIG} {words}; nothing of it was run", remedy=PLAIN)
    remedy = "take the tokenizer files that belong to the checkpoint"
    try:
        # Without the last argument transformers would ask whoever sits there whether to run code of the folder.
        tokenizer: Any = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _NO_TOKENIZER as error:
        raise ConfigurationError(f"the tokenizer in {folder} cannot be read: {error}", remedy=remedy) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):  # transformers makes whatever class of its own is named
        raise ConfigurationError(
            f"{folder}/{TOKENIZER_CONFIG} names {type(tokenizer).__name__}, which is no tokenizer", remedy=remedy
        )
    if len(tokenizer) > vocabulary:
        raise ConfigurationError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, its network knows {vocabulary}", remedy=remedy
        )
    return tokenizer
