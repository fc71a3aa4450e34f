"""Small networks for both engines: sizes that upstream's code can have, and a vocabulary of a few words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.models.tokens import SPECIAL_IDS

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
GROUNDINGDINO_SIZES = {
    "swin": {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4], "window_size": 4},
    # The width of 256 is written into upstream's text enhancer.
    "config": {"enc_layers": 2, "dec_layers": 2, "hidden_dim": 256, "dim_feedforward": 64, "num_queries": 7},
}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "sam": SAM_SIZES,
    "sam-hq": SAM_SIZES,
    "groundingdino": GROUNDINGDINO_SIZES,
}
SIDES = (64, 107)  # shorter and longest side that the small detector sees pictures at
TOKENS = 1100  # the separators have the numbers of bert-base-uncased, up to 1029
WORDS = ("a", "red", "blue", "circle", "square", "star")


def write_text_folder(folder: Path) -> dict[str, Path]:
    """Write the configuration and the tokenizer of a small BERT; its files by name."""
    names = {number: f"unused{number}" for number in range(TOKENS)}
    names |= {200 + number: word for number, word in enumerate(WORDS)}
    names |= {0: "[PAD]", 100: "[UNK]", 103: "[MASK]"} | {number: token for token, number in SPECIAL_IDS.items()}
    (folder / "vocab.txt").write_text("".join(f"{names[number]}\n" for number in range(TOKENS)), encoding="utf-8")
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 48}
    _write(
        folder / "config.json",
        {"model_type": "bert", "vocab_size": TOKENS, "max_position_embeddings": 256, **sizes},
    )
    return {name: folder / name for name in ("vocab.txt", "tokenizer_config.json")}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
