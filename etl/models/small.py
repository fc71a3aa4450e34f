"""The configuration ``small`` of every family: the real architectures at sizes a laptop's CPU runs in milliseconds."""

from __future__ import annotations

import re
from typing import Any

_OBJECTS = """apple ball bicycle bird boat book bottle box bus car cat chair circle clock cloud cross cup dog fence
    flower heart horse house lamp mountain person ring road shoe square star table tree triangle window"""
_COLOURS = "black blue brown green orange pink purple red white yellow"
_FILLERS = "a and at in large near of on small the"
TAGS = sorted([*_OBJECTS.split(), *_COLOURS.split(), "t-shirt", "traffic light"])
WORDS = sorted({word for tag in TAGS for word in re.findall(r"\w+", tag)})
CAPTION_WORDS = sorted({*WORDS, *_FILLERS.split()})

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SAM_PIXELS = {
    "image_mean": [123.675 / 255, 116.28 / 255, 103.53 / 255],
    "image_std": [58.395 / 255, 57.12 / 255, 57.375 / 255],
}
CLIP_PIXELS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
BILINEAR, BICUBIC = 2, 3

_SWIN: dict[str, Any] = {
    "image_size": 128,
    "patch_size": 4,
    "embed_dim": 32,
    "depths": [2, 2, 2],
    "num_heads": [4, 8, 8],
    "window_size": 4,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.0,
}
RAM: dict[str, Any] = {
    "model_type": "ram",
    "swin": _SWIN,
    "head": {"embed_width": 64, "hidden_size": 96, "layers": 2, "heads": 4, "intermediate_size": 192},
}
DETECTOR: dict[str, Any] = {
    "backbone_config": {**_SWIN, "model_type": "swin", "out_indices": [2, 3]},
    "text_config": {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
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
    "fusion_droppath": 0.0,
}
DETECTOR_SIZE = {"shortest_edge": 160, "longest_edge": 266}
SEGMENTER_SIDE = 160
SEGMENTER: dict[str, Any] = {
    "vision_config": {
        "image_size": SEGMENTER_SIDE,
        "patch_size": 8,
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "mlp_dim": 192,
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
CAPTIONER: dict[str, Any] = {
    "vision_config": {
        "image_size": CAPTIONER_SIDE,
        "patch_size": 8,
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "initializer_range": 0.02,  # the default of 1e-10 is no weight at all
    },
    "qformer_config": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "cross_attention_frequency": 1,
        "vocab_size": 8,  # used by text inputs only, which captions have not
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "text_config": {
        "model_type": "opt",
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "max_position_embeddings": 64,
        "dropout": 0.0,
    },
    "num_query_tokens": 8,
}
ENCODER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "projection_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
