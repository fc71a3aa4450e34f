"""The small networks: configurations, and folders of weights as the loaders of the big ones read them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from etl.models.pixels import BICUBIC, BILINEAR, CLIP_PIXELS, IMAGENET, SAM_PIXELS, Preprocessor
from etl.models.ram import SWIN, TAG_LIST, THRESHOLDS, Tagger
from etl.shapes.world.words import TAGS

SWIN_SIZES: dict[str, Any] = {
    "image_size": 160,
    "patch_size": 4,
    "embed_dim": 32,
    "depths": [2, 2, 4],
    "num_heads": [4, 8, 8],
    "window_size": 5,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.0,
}
RAM: dict[str, Any] = {
    "model_type": "ram",
    "swin": SWIN_SIZES,
    "head": {"embed_width": 64, "hidden_size": 96, "layers": 2, "heads": 4, "intermediate_size": 192},
}
SEGMENTER_SIDE = 160
SEGMENTER: dict[str, Any] = {
    "vision_config": {
        "image_size": SEGMENTER_SIDE,
        "patch_size": 8,
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "mlp_dim": 288,
        "window_size": 5,
        "global_attn_indexes": [1, 3],
        "output_channels": 64,
        "num_pos_feats": 32,
        "initializer_range": 0.02,  # the default of 1e-10 is no weight at all
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": SEGMENTER_SIDE, "patch_size": 8},
    "mask_decoder_config": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "mlp_dim": 128,
        "iou_head_hidden_dim": 64,
        "layer_norm_eps": 1e-5,  # as upstream; the default of transformers differs
    },
}
CAPTIONER_SIDE = 96


def captioner_config(words: int) -> dict[str, Any]:
    """BLIP-2 with OPT, laid out for a tokenizer of so many words."""
    return {
        "vision_config": {
            "image_size": CAPTIONER_SIDE,
            "patch_size": 8,
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "initializer_range": 0.02,  # the default of 1e-10 is no weight at all
        },
        "qformer_config": {
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 192,
            "cross_attention_frequency": 1,
            "vocab_size": 8,  # used by text inputs only, which captions have not
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        "text_config": {
            "model_type": "opt",
            "hidden_size": 96,
            "word_embed_proj_dim": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 192,
            "max_position_embeddings": 96,
            "dropout": 0.0,
            "bos_token_id": 2,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "vocab_size": words,
        },
        "num_query_tokens": 12,
        "image_token_index": 3,
    }


DETECTOR_SIZE = {"shortest_edge": 160, "longest_edge": 266}


def detector_config(words: int) -> dict[str, Any]:
    """GroundingDINO with the tagger's Swin, laid out for a tokenizer of so many words."""
    return {
        "backbone_config": {**SWIN_SIZES, "model_type": "swin", "out_indices": [2, 3]},
        "text_config": {
            "model_type": "bert",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "vocab_size": words,
        },
        "d_model": 64,  # GroupNorm with 32 groups: a multiple of 32
        "num_feature_levels": 3,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 192,
        "decoder_ffn_dim": 192,
        "num_queries": 40,
        "max_text_len": 64,
        "dropout": 0.0,
        "fusion_dropout": 0.0,
        "fusion_droppath": 0.0,
        "text_enhancer_dropout": 0.0,
    }


def encoder_config(tokenizer: Any) -> dict[str, Any]:
    """CLIP's text tower, laid out for a tokenizer."""
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "projection_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,  # with 2 transformers would pool the largest id instead
        "pad_token_id": tokenizer.pad_token_id,
    }


def ram_preprocessor() -> Preprocessor:
    """What the tagger sees: a square, stretched."""
    side = SWIN_SIZES["image_size"]
    mean, std = tuple(IMAGENET["image_mean"]), tuple(IMAGENET["image_std"])
    return Preprocessor({"height": side, "width": side}, mean, std, Image.Resampling(BILINEAR))  # type: ignore[arg-type]


def save_ram(swin: Any, head: nn.Module, folder: Path) -> None:
    """Write a tagger."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:  # save_pretrained writes the names every transformers can read
        swin.save_pretrained(name)
        vision = load_file(Path(name) / "model.safetensors")
    weights = {SWIN + key: value for key, value in vision.items()} | head.state_dict()
    write_weights(weights, folder)
    write_json(folder / "config.json", RAM)
    (folder / TAG_LIST).write_text("\n".join(TAGS))
    (folder / THRESHOLDS).write_text("\n".join("0.5" for _ in TAGS))
    side = SWIN_SIZES["image_size"]
    write_json(
        folder / "preprocessor_config.json",
        {"size": {"height": side, "width": side}, "resample": BILINEAR, "rescale_factor": 1 / 255, **IMAGENET},
    )


def read_swin(folder: Path, backbone: nn.Module) -> frozenset[str]:
    """Give a detector's backbone the weights of a tagger's Swin; returns the names of its parameters that got them.

    Raises:
        KeyError: The Swins differ in layout.
    """
    tagger = Tagger(folder, "cpu", "float32")
    given = {f"swin.{name}": value for name, value in tagger.swin.state_dict().items()}
    own = backbone.state_dict()
    shared = {name: value for name, value in given.items() if name in own}
    missing = [name for name in own if name not in shared and "hidden_states_norms" not in name]
    if missing:
        raise KeyError(f"the tagger's Swin lacks {missing[:5]}")
    backbone.load_state_dict(shared, strict=False)
    return frozenset(shared)


def grounder_preprocessor() -> Preprocessor:
    """What the grounder sees: the shorter side resized."""
    mean, std = tuple(IMAGENET["image_mean"]), tuple(IMAGENET["image_std"])
    return Preprocessor(DETECTOR_SIZE, mean, std, Image.Resampling(BILINEAR))  # type: ignore[arg-type]


def save_grounder(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write a grounder."""
    _save(network, folder)
    tokenizer.save_pretrained(folder)
    content = {"size": DETECTOR_SIZE, "resample": BILINEAR, "rescale_factor": 1 / 255, **IMAGENET}
    write_json(folder / "preprocessor_config.json", content)


def sam_preprocessor() -> Preprocessor:
    """What the segmenter sees: the longer side resized, the rest padded."""
    mean, std = tuple(SAM_PIXELS["image_mean"]), tuple(SAM_PIXELS["image_std"])
    return Preprocessor({"longest_edge": SEGMENTER_SIDE}, mean, std, Image.Resampling(BILINEAR))  # type: ignore[arg-type]


def save_sam(network: Any, folder: Path) -> None:
    """Write a segmenter."""
    _save(network, folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "size": {"longest_edge": SEGMENTER_SIDE},
            "pad_size": {"height": SEGMENTER_SIDE, "width": SEGMENTER_SIDE},
            "resample": BILINEAR,
            "rescale_factor": 1 / 255,
            **SAM_PIXELS,
        },
    )


def blip2_preprocessor() -> Preprocessor:
    """What the captioner sees: a square, stretched."""
    mean, std = tuple(CLIP_PIXELS["image_mean"]), tuple(CLIP_PIXELS["image_std"])
    size = {"height": CAPTIONER_SIDE, "width": CAPTIONER_SIDE}
    return Preprocessor(size, mean, std, Image.Resampling(BICUBIC))  # type: ignore[arg-type]


def save_blip2(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write a captioner."""
    _save(network, folder)
    tokenizer.save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "size": {"height": CAPTIONER_SIDE, "width": CAPTIONER_SIDE},
            "resample": BICUBIC,
            "rescale_factor": 1 / 255,
            **CLIP_PIXELS,
        },
    )


def save_clip_text(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write a text embedder."""
    _save(network, folder)
    tokenizer.save_pretrained(folder)


def _save(network: Any, folder: Path) -> None:
    """Write weights in half precision and the configuration, by the names that every transformers can read."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        network.save_pretrained(name)
        write_weights(load_file(Path(name) / "model.safetensors"), folder)
        for file in Path(name).glob("*.json"):  # the version of transformers would make equal weights differ
            content = json.loads(file.read_text())
            content.pop("transformers_version", None)
            write_json(folder / file.name, content)


def write_weights(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Half precision: the networks lose nothing that was measured, and the package half its size."""
    halved = {key: v.half().contiguous() if v.is_floating_point() else v for key, v in weights.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(file: Path, content: Any) -> None:
    """Write JSON whose bytes depend on its content only."""
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
