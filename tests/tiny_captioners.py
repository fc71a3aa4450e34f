"""Captioners of the real classes at a tiny size with seeded random weights, laid out as folders of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from etl.models.pixels import BICUBIC, CLIP_PIXELS

WORDS = [f"w{number}" for number in range(40)]
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
QFORMER = {**VISION, "encoder_hidden_size": 16, "vocab_size": 8, "cross_attention_frequency": 1}
OPT = {"model_type": "opt", "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 2}
OPT |= {"num_attention_heads": 2, "max_position_embeddings": 64, "vocab_size": 50, "eos_token_id": 3}
T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
# As in the published configurations: LAVIS gives Flan-T5 the exact gelu, and Flan-T5 has an output layer of its own.
T5 |= {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu", "tie_word_embeddings": False}
T5 |= {"decoder_start_token_id": 0, "bos_token_id": 1}
SPECIAL = {
    "opt": ["<s>", "<pad>", "</s>", "\n", "<unk>"],
    "t5": ["<pad>", "</s>", "<unk>"],
    "qwen": ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"],
}
SPECIAL["qwen"] += ["<|image_pad|>", "<|video_pad|>", "user", "assistant", "\n"]
QWEN_VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
QWEN_VISION |= {"patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
QWEN_TEXT = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "head_dim": 8}
QWEN_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512}
QWEN_TEXT["rope_parameters"] = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "mrope_section": [2, 1, 1],
    "mrope_interleaved": True,
}


def noise(seed: int, width: int, height: int) -> Image.Image:
    """A picture of sixteen coloured fields that no other seed gives."""
    fields = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize((width, height), Image.Resampling.NEAREST)


def blip2_folder(folder: Path, language: str, *, seed: int = 0, vision: Mapping[str, Any] | None = None) -> Path:
    """BLIP-2 with ``language`` opt or t5; ``vision`` replaces what its vision tower is."""
    text = dict(OPT if language == "opt" else T5)
    config = Blip2Config(
        vision_config={**VISION, "image_size": 28, "patch_size": 14, "initializer_range": 0.02, **(vision or {})},
        qformer_config=QFORMER,
        text_config=text,
        num_query_tokens=4,
    )
    network: Any = _random(Blip2ForConditionalGeneration, config, seed)
    if language == "t5":
        network.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(50, 16))
    content = config.to_dict()
    _write(folder, network, {**content, "text_config": {**content["text_config"], **text}})
    _tokenizer(folder, language)
    pixels = {"size": {"height": 28, "width": 28}, "resample": BICUBIC, **CLIP_PIXELS}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def qwen_folder(folder: Path, *, seed: int = 0) -> Path:
    """Qwen3-VL whose tokens of a picture are squares of 8 pixels."""
    names = dict(zip(SPECIAL["qwen"], range(60), strict=False))
    config = Qwen3VLConfig(
        vision_config=QWEN_VISION,
        text_config=QWEN_TEXT,
        image_token_id=names["<|image_pad|>"],
        video_token_id=names["<|video_pad|>"],
        vision_start_token_id=names["<|vision_start|>"],
        vision_end_token_id=names["<|vision_end|>"],
    )
    _write(folder, _random(Qwen3VLForConditionalGeneration, config, seed), config.to_dict())
    _tokenizer(folder, "qwen")
    pixels = {
        "patch_size": 4,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder


def sharded(folder: Path, shards: int = 3) -> Path:
    """The folder with its weights in several files and an index, as large checkpoints are published."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
    places = {key: names[number % shards] for number, key in enumerate(tensors)}
    for name in names:
        part = {key: tensors[key] for key in tensors if places[key] == name}
        save_file(part, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def _random(cls: Any, config: Any, seed: int) -> Any:
    """A network whose answers differ from picture to picture: its initial weights are too small for that."""
    torch.manual_seed(seed)
    network = cls(config)
    louder = {"query_tokens": 3, "language_projection.weight": 6}
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if weights.ndim > 1:
                weights.normal_(0, weights[0].numel() ** -0.5 * louder.get(name, 1))
    return network


def _write(folder: Path, network: Any, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _tokenizer(folder: Path, kind: str) -> None:
    special = SPECIAL[kind]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    roles: dict[str, Any] = {"unk_token": "<unk>"}
    if kind == "opt":
        roles |= {"pad_token": "<pad>", "bos_token": "</s>", "eos_token": "</s>"}
        tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    elif kind == "t5":
        roles |= {"pad_token": "<pad>", "eos_token": "</s>"}
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    else:
        roles |= {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "additional_special_tokens": special[2:8]}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
