"""Tag2Text: ``tag2text_swin_14m.pth``, with ``tag2text_ori_tag_list.txt`` and, for its captions, BERT's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import BlipTextConfig, BlipTextLMHeadModel, BlipTextModel

from etl.models.checkpoints import taggers
from etl.models.checkpoints.keys import Report, Shape, Sizes
from etl.models.checkpoints.network import parts
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.checkpoints.swin import swin_config
from etl.models.swin_tagger import SWIN
from etl.models.tag2text import DECODER, ENCODER, TAG_LISTS, TAGGING, Tag2TextHead
from etl.models.tag_lists import read_tags

FAMILY = "tag2text"
KEYS = taggers.TAGGER_KEYS
UPSTREAM_TAGS = 3429
BERT_HEAD = 64  # width of one attention head of BERT


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a Tag2Text checkpoint.

    Raises:
        CheckpointError: It is none, or its list is missing.
        ConfigurationError: The list does not fit the network.
    """
    return convert_by(plan, FAMILY, files, out, needed=(TAG_LISTS,), check=_check_list)


def plan(sizes: Sizes) -> Plan:
    """What a Tag2Text checkpoint becomes."""
    n_tags, _ = sizes.of("label_embed.weight", 2)
    config: dict[str, Any] = {
        "model_type": "tag2text",
        "swin": swin_config(sizes, SWIN),
        "head": taggers.head_config(sizes),
        "tagging": tagging(n_tags),
        "text": text_config(sizes),
    }
    return Plan(config, tag2text_shapes(config, n_tags), KEYS, taggers.preprocessor(config))


def _check_list(out: Path, sizes: Sizes) -> None:
    read_tags(out, TAG_LISTS, sizes.of("label_embed.weight", 2)[0])


def tagging(n_tags: int) -> dict[str, Any]:
    """Upstream's thresholds, which go by the numbers of its own list; for another list one threshold only."""
    return TAGGING if n_tags == UPSTREAM_TAGS else {**TAGGING, "overrides": {}, "deleted": []}


def text_config(sizes: Sizes) -> dict[str, Any]:
    """Sizes of the tag encoder and the text decoder, which are the same."""
    vocabulary, width = sizes.of(f"{ENCODER}embeddings.word_embeddings.weight", 2)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": sizes.count(r"tag_encoder\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, width // BERT_HEAD),
        "intermediate_size": sizes.of(f"{ENCODER}encoder.layer.0.intermediate.dense.weight", 2)[0],
        "max_position_embeddings": sizes.of(f"{ENCODER}embeddings.position_embeddings.weight", 2)[0],
        "layer_norm_eps": 1e-12,
    }


def tag2text_shapes(config: Mapping[str, Any], n_tags: int) -> dict[str, Shape]:
    """Names and shapes of the parameters of the tagger and of the captioner."""
    seen: list[int] = []

    def head(width: int) -> Tag2TextHead:
        seen.append(width)
        return Tag2TextHead(n_tags=n_tags, vision_width=width, **config["head"])

    wanted = taggers.tagger_shapes(config, head)
    text = config["text"]
    encoder = BlipTextConfig(**text, encoder_hidden_size=seen[0])
    decoder = BlipTextConfig(**text, encoder_hidden_size=encoder.hidden_size)
    for prefix, shapes in (
        (ENCODER, parts(lambda: BlipTextModel(encoder, add_pooling_layer=False)).shapes),
        (DECODER, parts(lambda: BlipTextLMHeadModel(decoder)).shapes),
    ):
        wanted |= {f"{prefix}{name}": shape for name, shape in shapes.items()}
    return wanted
