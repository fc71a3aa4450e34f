"""The tokenizer beside a checkpoint: read once as the network's loader will, before a store keeps the two together."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, BertTokenizer

from etl.models.folders import read_json
from etl.models.grounding_dino import check_special_ids
from etl.models.reading import TOKENIZER_FILES, read_tokenizer
from etl.models.tag2text_captions import special_ids

READ_BY_KIND = ("groundingdino", "clip-text", "blip2", "qwen-vl")  # their config.json tells transformers which kind


def check_tokenizer(family: str, out: Path) -> None:
    """Read the tokenizer of a converted folder, where its family has one.

    A store enforces the files that it was first given: a wrong tokenizer must not be among them.

    Raises:
        ConfigurationError: It cannot be read, asks for code, or is not that of the network, as far as ids tell.
    """
    if family in READ_BY_KIND:
        config = AutoConfig.from_pretrained(out, local_files_only=True, trust_remote_code=False)
        tokenizer = read_tokenizer(out, int(getattr(config, "text_config", config).vocab_size))
        if family == "groundingdino":
            check_special_ids(out, tokenizer)
    elif family == "tag2text" and any((out / name).is_file() for name in TOKENIZER_FILES):
        vocabulary = int(read_json(out, "config.json")["text"]["vocab_size"])
        special_ids(out, read_tokenizer(out, vocabulary, BertTokenizer), vocabulary)
