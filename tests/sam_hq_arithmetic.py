"""SAM-HQ's mask decoder by upstream's formulas, in float64 and in nothing but plain operations of torch.

Checked against segment-anything-hq 0.3 itself: 2.9e-6 at logits of 7.9, which is float32's rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normed(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def normed_maps(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Layer norm over the channels of [rows, channels, height, width]; here upstream's epsilon is always 1e-6."""
    return normed(weights, name, x.movedim(1, -1), 1e-6).movedim(-1, 1)


def perceptron(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Three layers with ReLU between them."""
    for part in ("proj_in", "layers.0"):
        x = linear(weights, f"{name}.{part}", x).clamp(min=0)
    return linear(weights, f"{name}.proj_out", x)


def attention(weights: Weights, name: str, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention of [rows, tokens, channels]."""
    given = zip("qkv", (query, key, value), strict=True)
    q, k, v = (linear(weights, f"{name}.{p}_proj", x).unflatten(-1, (heads, -1)).transpose(1, 2) for p, x in given)
    shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)
    return linear(weights, f"{name}.out_proj", (shares @ v).transpose(1, 2).flatten(2))


def two_way(weights: Weights, tokens: Tensor, image: Tensor, place: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Tokens [rows, tokens, channels] and image [rows, cells, channels], each having attended to the other."""
    queries, keys = tokens, image
    layers = {name.split(".")[2] for name in weights if name.startswith("transformer.layers.")}
    for number in sorted(layers):
        layer = f"transformer.layers.{number}"

        def norm(index: int, x: Tensor, layer: str = layer) -> Tensor:
            return normed(weights, f"{layer}.layer_norm{index}", x, 1e-5)

        with_place = queries if number == "0" else queries + tokens  # the first layer sees no positions of tokens
        seen = attention(weights, f"{layer}.self_attn", with_place, with_place, queries, heads)
        queries = norm(1, seen if number == "0" else queries + seen)  # and has no residual
        name = f"{layer}.cross_attn_token_to_image"
        queries = norm(2, queries + attention(weights, name, queries + tokens, keys + place, keys, heads))
        inner = linear(weights, f"{layer}.mlp.lin1", queries).clamp(min=0)
        queries = norm(3, queries + linear(weights, f"{layer}.mlp.lin2", inner))
        name = f"{layer}.cross_attn_image_to_token"
        keys = norm(4, keys + attention(weights, name, keys + place, queries + tokens, queries, heads))
    last = attention(weights, "transformer.final_attn_token_to_image", queries + tokens, keys + place, keys, heads)
    return normed(weights, "transformer.layer_norm_final_attn", queries + last, 1e-5), keys


def up(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)


def conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)


def decode(
    weights: Weights, image: Tensor, block: Tensor, place: Tensor, dense: Tensor, prompt: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Mask logits and IoU estimates of one picture's prompts, single mask plus HQ mask.

    Args:
        weights: The mask decoder's parameters in float64, named as transformers does.
        image: Image embeddings [1, channels, height, width].
        block: Output of the encoder's first global block [1, height, width, width of the encoder].
        place: Positional embeddings [1, channels, height, width].
        dense: Embedded mask prompt [1, channels, height, width].
        prompt: Prompt tokens [boxes, tokens, channels].
        heads: Attention heads.
    """
    boxes, gelu = len(prompt), functional.gelu
    own = up(weights, "encoder_conv2", gelu(normed_maps(weights, "encoder_norm", up(weights, "encoder_conv1", image))))
    early = up(weights, "compress_vit_conv1", block.movedim(-1, 1))
    shared = own + up(weights, "compress_vit_conv2", gelu(normed_maps(weights, "compress_vit_norm", early)))
    learned = torch.cat([weights[f"{name}.weight"] for name in ("iou_token", "mask_tokens", "hq_token")])
    tokens = torch.cat([learned.expand(boxes, -1, -1), prompt], dim=1)
    cells = (image + dense).flatten(2).transpose(1, 2).expand(boxes, -1, -1)
    answers, attended = two_way(weights, tokens, cells, place.flatten(2).transpose(1, 2), heads)
    maps = attended.transpose(1, 2).unflatten(2, image.shape[2:])
    coarse = gelu(
        up(
            weights,
            "upscale_conv2",
            gelu(normed_maps(weights, "upscale_layer_norm", up(weights, "upscale_conv1", maps))),
        )
    )
    fine = conv(weights, "mask_conv2", gelu(normed_maps(weights, "mask_norm", conv(weights, "mask_conv1", coarse))))
    single = perceptron(weights, "output_hypernetworks_mlps.0", answers[:, 1])
    high = perceptron(weights, "hq_mask_mlp", answers[:, 5])
    logits = torch.einsum("bc,bchw->bhw", single, coarse) + torch.einsum("bc,bchw->bhw", high, fine + shared)
    return logits, perceptron(weights, "iou_prediction_head", answers[:, 0])[:, 0]
