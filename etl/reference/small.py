"""Small networks for both engines: sizes that upstream's code can have, and a vocabulary of a few words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.models.tokens import SPECIAL_IDS
from etl.reference.folders import SIZES as SIZES_FILE
from etl.reference.process import Worker

SAM_SIZES = {
    "side": 64,
    "patch": 8,
    "width": 32,
    "depth": 3,
    "heads": 2,
    "window": 3,
    "global": [1],
    "channels": 32,
    "decoder_mlp": 24,
    "iou_width": 40,
}
SIDES = (64, 107)  # shorter and longest side that the small detector sees pictures at
GROUNDINGDINO_SIZES = {
    "swin": {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4], "window_size": 4},
    # The width of 256 is written into upstream's text enhancer.
    "config": {"enc_layers": 2, "dec_layers": 2, "hidden_dim": 256, "dim_feedforward": 64, "num_queries": 7},
    "sides": SIDES,
}
TOKENS = 1100  # the separators have the numbers of bert-base-uncased, up to 1029
RAM_SIZES = {
    "swin": {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4], "vision_width": 128},
    "head": {"hidden_size": 64, "intermediate_size": 96},
    # Upstream adds two tokens to its vocabulary.
    "text": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "encoder_width": 64,
        "max_position_embeddings": 64,
        "vocab_size": TOKENS + 2,
    },
}
FAMILY_SIZES: Mapping[str, Mapping[str, Any]] = {
    "sam": {"sam": SAM_SIZES},
    "sam-hq": {"sam": SAM_SIZES},
    "groundingdino": GROUNDINGDINO_SIZES,
    "ram": RAM_SIZES,
    "ram-plus": RAM_SIZES,
    "tag2text": RAM_SIZES,
}
WORDS = ("a", "red", "blue", "circle", "square", "star", "picture", "of")
TAGS, THRESHOLDS = 40, ("0.3", "0.4", "0.5")
TAG2TEXT_TAGS = 3429  # upstream's code sets thresholds of tags by numbers up to 2828, and deletes some up to 3359


def write_random(family: str, folder: Path, *, seed: int = 0, sizes: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint of upstream's network with random weights, and what belongs to it.

    Args:
        family: The family.
        folder: An existing folder that gets ``sizes.json``, ``random.pth``, a tokenizer and lists of made-up tags.
        seed: Of the weights.
        sizes: As ``sizes.json`` has them; ``{"upstream": <name>}`` is a network of upstream's own; None a small one.

    Raises:
        ConfigurationError: There is no reference environment, or it has no package of upstream's for the family.
        WorkerLostError: The worker died.
    """
    _write(folder / SIZES_FILE, FAMILY_SIZES[family] if sizes is None else sizes)
    if family in ("groundingdino", "tag2text"):
        write_text_files(folder)
    if family in ("ram", "ram-plus"):
        _write_lines(folder / "ram_tag_list.txt", [f"thing {number}" for number in range(TAGS)])
        _write_lines(folder / "ram_tag_list_threshold.txt", [THRESHOLDS[n % 3] for n in range(TAGS)])
    if family == "tag2text":
        _write_lines(folder / "tag2text_ori_tag_list.txt", [WORDS[n % len(WORDS)] for n in range(TAG2TEXT_TAGS)])
    with Worker() as worker:
        worker.open(family, folder, seed=seed)


def write_text_files(folder: Path) -> None:
    """Write the configuration and the tokenizer of a small BERT."""
    names = {number: f"unused{number}" for number in range(TOKENS)}
    names |= {200 + number: word for number, word in enumerate(WORDS)}
    names |= {0: "[PAD]", 100: "[UNK]", 103: "[MASK]"} | {number: token for token, number in SPECIAL_IDS.items()}
    _write_lines(folder / "vocab.txt", [names[number] for number in range(TOKENS)])
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 48}
    _write(
        folder / "config.json",
        {"model_type": "bert", "vocab_size": TOKENS, "max_position_embeddings": 256, **sizes},
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
