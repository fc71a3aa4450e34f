"""Small networks in the layout of upstream's checkpoints: its keys, with tensors stacked where it stacks them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from tiny_taggers import shaken
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
    SwinConfig,
)
from transformers.core_model_loading import revert_weight_conversion
from upstream_facts import upstream_state

from etl.models.checkpoints.keys import KeyMap

State = dict[str, torch.Tensor]
VISION = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_dim": 48, "window_size": 3}
VISION |= {"image_size": 32, "patch_size": 4, "output_channels": 32, "num_pos_feats": 16, "global_attn_indexes": [2]}
PROMPT = {"hidden_size": 32, "image_size": 32, "patch_size": 4}
DECODER = {"hidden_size": 32, "mlp_dim": 24, "iou_head_hidden_dim": 40, "layer_norm_eps": 1e-5}


def small_sam() -> Any:
    """SAM with every parameter random."""
    config = SamConfig(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
    return shaken(SamModel(config))


def small_sam_hq() -> Any:
    """SAM-HQ with every parameter random."""
    decoder = {**DECODER, "vit_dim": 32}
    config = SamHQConfig(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=decoder)
    return shaken(SamHQModel(config))


def small_groundingdino(vocabulary: int) -> Any:
    """GroundingDINO with every parameter random; ``vocabulary`` tokens."""
    swin = SwinConfig(embed_dim=16, depths=[1, 1, 2, 1], num_heads=[2, 2, 4, 4], window_size=2, out_indices=[2, 3, 4])
    text = BertConfig(vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, num_attention_heads=1)
    text.intermediate_size, text.max_position_embeddings = 48, 64
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 40, "num_queries": 7}
    config = GroundingDinoConfig(backbone_config=swin, text_config=text, d_model=32, **sizes)
    return shaken(GroundingDinoForObjectDetection(config))


def hub_weights(network: Any) -> State:
    """The tensors of a network of transformers under the names that published weights have."""
    return dict(revert_weight_conversion(network, network.state_dict()))


def upstream_layout(name: str, keys: KeyMap, network: Mapping[str, torch.Tensor]) -> State:
    """The tensors of a small network under the keys of a checkpoint, and zeros where the checkpoint has more.

    Args:
        name: The checkpoint, whose network has the same kinds of layers and at least as many.
        keys: How its keys become the network's.
        network: The small network's tensors by their names in the converted folder.
    """
    state: State = {}
    given: set[str] = set()
    for key in upstream_state(name):
        if keys.reason(key) is not None:
            continue
        names = [target for target, _ in keys.targets(key, torch.empty(3))]
        if all(target in network for target in names):
            stacked = any(re.search(pattern, key) for pattern, _ in keys.splits)
            state[key] = torch.cat([network[target] for target in names]) if stacked else network[names[0]].clone()
            given.update(names)
    assert given == set(network)
    blocks = {match[1] for match in map(_block, state) if match}
    for key in upstream_state(name):
        block = _block(key)
        if keys.reason(key) is not None and (block is None or block[1] in blocks):
            state[key] = torch.zeros(2)
    return state


def _block(key: str) -> re.Match[str] | None:
    return re.match(r"(.*\.blocks\.\d+)\.", key)
