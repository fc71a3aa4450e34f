"""Folders of random weights as the converters write them, of the real configurations or of small ones like them.

The real configurations are what the converters make of upstream's key lists (``tests/models/checkpoints/facts``); the
small ones have the same parts, fewer and narrower. BLIP-2 and CLIP, whose folders are published by Hugging Face, are
written down here.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPTextConfig,
    CLIPTextModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

from etl.models.checkpoints import groundingdino, sam, taggers
from etl.models.checkpoints.folder import write_folder
from etl.models.checkpoints.keys import Shape, Sizes
from etl.models.checkpoints.network import parts
from etl.models.contracts import Task
from etl.models.pixels import BICUBIC, CLIP_PIXELS
from etl.models.ram import RamHead
from etl.models.ram_plus import RamPlusHead
from etl.models.tag2text import Tag2TextHead
from etl.models.tag_lists import TAG_LIST, THRESHOLDS
from etl.models.tokenizers import captioner_tokenizer, detector_tokenizer, encoder_tokenizer

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # whose helper reads the key lists
from upstream_facts import upstream_state

Config = dict[str, Any]
WORDS = tuple(f"word{number}" for number in range(40))
TAGS = {"ram": 4585, "ram-plus": 4585, "tag2text": 3429}  # in either size


@dataclass(frozen=True)
class Variant:
    """One network that is measured.

    Attributes:
        family: As the catalog names it.
        task: What it is opened for.
        checkpoint: The key list that its real configuration follows from; empty where ``PUBLISHED`` has it.
    """

    family: str
    task: Task
    checkpoint: str = ""


VARIANTS: Mapping[str, Variant] = {
    "ram": Variant("ram", "tagger", "ram_swin_large_14m"),
    "ram-plus": Variant("ram-plus", "tagger", "ram_plus_swin_large_14m"),
    "tag2text": Variant("tag2text", "tagger", "tag2text_swin_14m"),
    "groundingdino": Variant("groundingdino", "grounder", "groundingdino_swint_ogc"),
    "sam-vit-h": Variant("sam", "segmenter", "sam_vit_h_4b8939"),
    "sam-vit-l": Variant("sam", "segmenter", "sam_vit_l_0b3195"),
    "sam-vit-b": Variant("sam", "segmenter", "sam_vit_b_01ec64"),
    "sam-hq-vit-h": Variant("sam-hq", "segmenter", "sam_hq_vit_h"),
    "blip2-opt-2.7b": Variant("blip2", "captioner"),
    "clip-text": Variant("clip-text", "embedder"),
}

# No token of the vocabulary ends a sentence, so that random weights write every caption to its full length.
_OPT: Config = {"model_type": "opt", "hidden_size": 2560, "word_embed_proj_dim": 2560, "num_hidden_layers": 32}
_OPT |= {"num_attention_heads": 32, "ffn_dim": 10240, "vocab_size": 50304, "eos_token_id": 50304}
PUBLISHED: Mapping[str, Config] = {
    "blip2": {
        "model_type": "blip-2",
        "vision_config": {"layer_norm_eps": 1e-6},  # ViT-g and the Q-Former are the defaults of transformers
        "qformer_config": {},
        "text_config": _OPT,
        "num_query_tokens": 32,
        "image_token_index": 50265,
        "use_decoder_only_language_model": True,
    },
    "clip-text": {
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "bos_token_id": 3,  # ids of ``encoder_tokenizer``
        "eos_token_id": 4,
        "pad_token_id": 0,
    },
}

_SWIN = {"image_size": 192, "embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [3, 6, 12, 24], "window_size": 6}
_HEAD = {"hidden_size": 96, "intermediate_size": 192}
_RAM = {"swin": _SWIN, "head": {**_HEAD, "embed_width": 64}}
_VIT = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "mlp_dim": 768, "image_size": 256}
_SAM: Config = {"vision_config": {**_VIT, "window_size": 7, "global_attn_indexes": [1, 3]}}
_SAM["prompt_encoder_config"] = {"image_size": 256}
_BERT = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768}
_LAYERS = {"encoder_layers": 2, "encoder_ffn_dim": 256, "decoder_layers": 2, "decoder_ffn_dim": 256}
SMALL: Mapping[str, Config] = {
    "ram": _RAM,
    "ram-plus": _RAM,
    "tag2text": {"swin": _SWIN, "head": _HEAD},
    "sam": _SAM,
    "sam-hq": {**_SAM, "mask_decoder_config": {"vit_dim": 192}},
    "groundingdino": {
        "backbone_config": {"embed_dim": 48, "depths": [2, 2, 2, 2]},
        "text_config": {**_BERT, "vocab_size": 2000},
        "num_queries": 100,
        "d_model": 64,
        **_LAYERS,
    },
    "blip2": {
        "vision_config": {**_BERT, "image_size": 112},
        "qformer_config": {**_BERT, "encoder_hidden_size": 192},
        "text_config": {
            **{"hidden_size": 192, "word_embed_proj_dim": 192, "num_hidden_layers": 4, "num_attention_heads": 3},
            **{"ffn_dim": 768, "vocab_size": 4000, "eos_token_id": 4000, "max_position_embeddings": 256},
        },
        "image_token_index": 3,
    },
    "clip-text": {**_BERT, "vocab_size": 4000},
}
SMALL_DETECTOR_SIDES = {"shortest_edge": 160, "longest_edge": 266}


def config_of(name: str, size: str) -> Config:
    """``config.json`` of a network, ``size`` real or small."""
    variant = VARIANTS[name]
    config = PUBLISHED.get(variant.family) or _converted(variant)
    return merged(config, SMALL[variant.family]) if size == "small" else merged(config, {})


def _converted(variant: Variant) -> Config:
    module = import_module(f"etl.models.checkpoints.{variant.family.replace('-', '_')}")
    sizes = Sizes(Path(variant.checkpoint), variant.family, upstream_state(variant.checkpoint))
    return dict(module.plan(sizes).config)


def merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """A configuration with changes, which go into its parts."""
    inner = {key: merged(config.get(key, {}), value) for key, value in changes.items() if isinstance(value, Mapping)}
    return {**config, **changes, **inner}


def shapes_of(family: str, config: Mapping[str, Any], n_tags: int) -> dict[str, Shape]:
    """Names and shapes of the parameters of a network; a tagger answers for ``n_tags``."""
    heads: dict[str, Callable[..., Any]] = {"ram": RamHead, "ram-plus": RamPlusHead, "tag2text": Tag2TextHead}
    if family in heads:
        return taggers.tagger_shapes(
            config, lambda width: heads[family](n_tags=n_tags, vision_width=width, **config["head"])
        )
    return parts(lambda: build(family, config)).shapes


def build(family: str, config: Mapping[str, Any]) -> Any:
    """A network of transformers with the numbers that it starts with, on torch's default device."""
    if family == "clip-text":
        return CLIPTextModel(CLIPTextConfig(**config))
    network, settings = {
        "sam": (SamModel, SamConfig),
        "sam-hq": (SamHQModel, SamHQConfig),
        "groundingdino": (GroundingDinoForObjectDetection, GroundingDinoConfig),
        "blip2": (Blip2ForConditionalGeneration, Blip2Config),
    }[family]
    return network(settings(**config))


def folder_of(name: str, size: str, root: Path) -> Path:
    """The folder of a network with random weights below ``root``, written unless it is there."""
    family, out = VARIANTS[name].family, root / f"{name}-{size}"
    config = config_of(name, size)
    done = out / "written.json"
    if done.is_file() and json.loads(done.read_text()) == json.loads(json.dumps(config)):
        return out
    out.mkdir(parents=True, exist_ok=True)
    n_tags = TAGS.get(family, 0)
    # BLIP-2 is published in half precision; the others have float32.
    dtype = torch.bfloat16 if family == "blip2" else torch.float32
    write_folder(
        out, config, random_weights(shapes_of(family, config, n_tags), dtype), _preprocessor(family, config, size)
    )
    _others(out, family, n_tags)
    done.write_text(json.dumps(config))
    return out


def random_weights(shapes: Mapping[str, Shape], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights with which activations keep their size: normal numbers over the root of what goes into a sum.

    They are cut from one block of random numbers, each from another place: four thousand million take a while to draw.
    """
    block = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if len(shape) < 2:  # a norm's gain, a bias, the scale of RAM++
            weights[name] = torch.full(shape, 2.7 if not shape else float(name.endswith("weight")), dtype=dtype)
            continue
        count, start = math.prod(shape), number * 7919
        numbers = block.repeat(-(-(count + start) // len(block)))[start : start + count]
        weights[name] = numbers.view(shape).mul(math.prod(shape[1:]) ** -0.5)
    return weights


def _preprocessor(family: str, config: Mapping[str, Any], size: str) -> Config | None:
    if family in TAGS:
        return taggers.preprocessor(config)
    if family in ("sam", "sam-hq"):
        return sam.preprocessor(config)
    if family == "groundingdino":
        return {**groundingdino.PREPROCESSOR, **({"size": SMALL_DETECTOR_SIDES} if size == "small" else {})}
    if family == "blip2":
        side = config["vision_config"].get("image_size", 224)
        return {**CLIP_PIXELS, "size": {"height": side, "width": side}, "resample": BICUBIC, "rescale_factor": 1 / 255}
    return None


def _others(out: Path, family: str, n_tags: int) -> None:
    """Tag lists and tokenizers, whose words stand in for the published ones."""
    if n_tags:
        (out / TAG_LIST).write_text("\n".join(f"tag {number}" for number in range(n_tags)))
        (out / THRESHOLDS).write_text("\n".join("0.5" for _ in range(n_tags)))
    makers = {"groundingdino": detector_tokenizer, "blip2": captioner_tokenizer, "clip-text": encoder_tokenizer}
    if family in makers:
        makers[family](WORDS).save_pretrained(out)
