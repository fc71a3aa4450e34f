"""SAM: ``sam_vit_h_4b8939.pth``, ``sam_vit_l_0b3195.pth``, ``sam_vit_b_01ec64.pth``.

Source of names and sizes: ``build_sam.py`` and ``modeling/`` of facebookresearch/segment-anything, revision dca509f.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import SamConfig, SamModel

from etl.models.checkpoints.keys import KeyMap, Report, Sizes
from etl.models.checkpoints.network import parts
from etl.models.checkpoints.plan import Plan, convert_by
from etl.models.pixels import BILINEAR, SAM_PIXELS

FAMILY = "sam"
DECODER_HEADS = 8
DECODER_EPS = 1e-5  # torch's own, which upstream's two-way transformer has; transformers' default is 1e-6
POSITIONS = r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$"
KEYS = KeyMap(
    drops=((r"^pixel_(mean|std)$", "is in preprocessor_config.json"),),
    copies=(
        (
            POSITIONS,
            ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"),
        ),
    ),
    names=(
        (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
        (r"^image_encoder\.", "vision_encoder."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"\.neck\.0\.", ".neck.conv1."),
        (r"\.neck\.1\.", ".neck.layer_norm1."),
        (r"\.neck\.2\.", ".neck.conv2."),
        (r"\.neck\.3\.", ".neck.layer_norm2."),
        (r"\.point_embeddings\.", ".point_embed."),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        # Heads of three layers: their first and last have names of their own.
        (r"(mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
        (r"(mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
        (r"(mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    ),
)


def convert(files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a SAM checkpoint; raises CheckpointError when it is none."""
    return convert_by(plan, FAMILY, files, out)


def plan(sizes: Sizes) -> Plan:
    """What a SAM checkpoint becomes."""
    config: dict[str, Any] = {"model_type": "sam", **sam_config(sizes)}
    wanted = parts(lambda: SamModel(SamConfig(**config))).shapes
    return Plan(config, wanted, KEYS, preprocessor(config))


def sam_config(sizes: Sizes) -> dict[str, Any]:
    """The sizes of SAM, from the shapes of a checkpoint."""
    vision = _vision(sizes)
    hidden = sizes.of("prompt_encoder.no_mask_embed.weight", 2)[1]
    tokens, _ = sizes.of("mask_decoder.mask_tokens.weight", 2)
    inner, _ = sizes.of("mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight", 2)
    return {
        "vision_config": vision,
        "prompt_encoder_config": {
            "hidden_size": hidden,
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "mask_input_channels": sizes.of("prompt_encoder.mask_downscaling.3.weight", 4)[0],
            "num_point_embeddings": sizes.count(r"prompt_encoder\.point_embeddings\.(\d+)\."),
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        "mask_decoder_config": {
            "hidden_size": hidden,
            "hidden_act": "relu",
            "mlp_dim": sizes.of("mask_decoder.transformer.layers.0.mlp.lin1.weight", 2)[0],
            "num_hidden_layers": sizes.count(r"mask_decoder\.transformer\.layers\.(\d+)\."),
            "num_attention_heads": DECODER_HEADS,
            "attention_downsample_rate": hidden // inner,
            "num_multimask_outputs": tokens - 1,
            "iou_head_depth": 3,
            "iou_head_hidden_dim": sizes.of("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
            "layer_norm_eps": DECODER_EPS,
        },
    }


def _vision(sizes: Sizes) -> dict[str, Any]:
    width, channels, patch, _ = sizes.of("image_encoder.patch_embed.proj.weight", 4)
    grid = sizes.of("image_encoder.pos_embed", 4)[1]
    layers = sizes.count(r"image_encoder\.blocks\.(\d+)\.")
    tables = [sizes.of(f"image_encoder.blocks.{layer}.attn.rel_pos_h", 2) for layer in range(layers)]
    # A table has one row per distance: of the whole grid where a block sees all of it, else of a window.
    everywhere = [layer for layer, (rows, _) in enumerate(tables) if rows == 2 * grid - 1]
    windows = [(rows + 1) // 2 for rows, _ in tables if rows != 2 * grid - 1]
    return {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": grid * patch,
        "num_hidden_layers": layers,
        "num_attention_heads": width // tables[0][1] if tables else 1,
        "global_attn_indexes": everywhere,
        "window_size": windows[0] if windows else grid,
        "mlp_dim": sizes.of("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
        "output_channels": sizes.of("image_encoder.neck.0.weight", 4)[0],
        "num_pos_feats": sizes.of("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 2)[1],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "use_abs_pos": True,
        "use_rel_pos": True,
    }


def preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
    """How SAM sees a picture: its longer side resized, the rest of the square padded."""
    side = config["vision_config"]["image_size"]
    return {
        **SAM_PIXELS,
        "size": {"longest_edge": side},
        "pad_size": {"height": side, "width": side},
        "resample": BILINEAR,
        "rescale_factor": 1 / 255,
    }
