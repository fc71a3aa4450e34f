"""Swin, which RAM, RAM++, Tag2Text and GroundingDINO see with: its sizes, and its keys under the hub's names."""

from __future__ import annotations

from typing import Any

from etl.models.checkpoints.keys import Sizes

DROPS = (
    (r"\.relative_position_index$", "follows from the window size"),
    (r"\.attn_mask$", "follows from the window and picture size"),
)
_QKV = tuple(rf".attention.self.{part}." for part in ("query", "key", "value"))
SPLITS = ((r"\.attn\.qkv\.", _QKV),)
NAMES = (
    (r"\.patch_embed\.proj\.", ".embeddings.patch_embeddings.projection."),
    (r"\.patch_embed\.norm\.", ".embeddings.norm."),
    (r"\.layers\.(\d+)\.(blocks|downsample)\.", r".encoder.layers.\1.\2."),
    (r"(\.blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(\.blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"\.attn\.relative_position_bias_table", ".attention.self.relative_position_bias_table"),
    (r"(\.blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(\.blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(\.blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
)


def swin_config(sizes: Sizes, prefix: str) -> dict[str, Any]:
    """Arguments of SwinConfig, from the shapes of a checkpoint.

    The picture's size is the one at which the last stage is a single window, as in all of upstream's configurations
    (window 7: 224, window 12: 384).

    Args:
        sizes: Of the checkpoint.
        prefix: What its Swin's keys begin with.
    """
    width, channels, patch, _ = sizes.of(f"{prefix}patch_embed.proj.weight", 4)
    escaped = prefix.replace(".", r"\.")
    stages = sizes.count(rf"{escaped}layers\.(\d+)\.blocks\.")
    depths = [sizes.count(rf"{escaped}layers\.{stage}\.blocks\.(\d+)\.") for stage in range(stages)]
    tables = [
        sizes.of(f"{prefix}layers.{stage}.blocks.0.attn.relative_position_bias_table", 2) for stage in range(stages)
    ]
    window = (round(tables[0][0] ** 0.5) + 1) // 2 if tables else 1
    inner, _ = sizes.of(f"{prefix}layers.0.blocks.0.mlp.fc1.weight", 2)
    return {
        "image_size": patch * window * 2 ** (stages - 1),
        "patch_size": patch,
        "num_channels": channels,
        "embed_dim": width,
        "depths": depths,
        "num_heads": [heads for _, heads in tables],
        "window_size": window,
        "mlp_ratio": inner / width,
        "layer_norm_eps": 1e-5,
        "drop_path_rate": 0.0,
    }
