"""SAM and SAM-HQ by ``segment_anything`` and ``segment_anything_hq``."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .frames import Arrays, Message
from .weights import State, network_of

PIXEL_MEAN, PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
NAMES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # by the width of the encoder


class Sam:
    """One mask per box, box after box."""

    package: ClassVar[str] = "segment_anything"

    def __init__(self, folder: Path, device: str, seed: int | None) -> None:
        network = network_of(folder, device, seed, self._build)
        self.predictor = import_module(self.package).SamPredictor(network)

    def facts(self) -> dict[str, Any]:
        return {"side": int(self.predictor.model.image_encoder.img_size)}

    def answer(self, asked: Message) -> Arrays:
        """``logits`` at the network's size and ``ious``; and, if asked for, ``full``: logits at the picture's size."""
        self.predictor.set_image(asked.arrays["picture"])
        boxes = asked.arrays["boxes"]
        found = [self.predictor.predict(box=box, multimask_output=False, return_logits=True) for box in boxes]
        full, ious, logits = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return {"logits": logits, "ious": ious} | ({"full": full} if asked.header.get("full") else {})

    def _build(self, sizes: dict[str, Any], state: State | None) -> Any:
        name = sizes.get("upstream")
        if state is not None and "sam" not in sizes:
            name = NAMES[state["image_encoder.patch_embed.proj.weight"].shape[0]]
        if name is not None:
            return import_module(self.package).sam_model_registry[name]()
        parts = import_module(f"{self.package}.modeling")
        return parts.Sam(
            _encoder(parts, sizes["sam"]),
            _prompts(parts, sizes["sam"]),
            self._decoder(parts, sizes["sam"]),
            pixel_mean=PIXEL_MEAN,
            pixel_std=PIXEL_STD,
        )

    def _decoder(self, parts: Any, sizes: dict[str, Any]) -> Any:
        return parts.MaskDecoder(**_decoder_sizes(parts, sizes))


class SamHQ(Sam):
    """The same of SAM-HQ, whose masks are the sum of both heads as upstream's ``predict`` gives them."""

    package: ClassVar[str] = "segment_anything_hq"

    def _decoder(self, parts: Any, sizes: dict[str, Any]) -> Any:
        return parts.MaskDecoderHQ(vit_dim=sizes["width"], **_decoder_sizes(parts, sizes))


def _encoder(parts: Any, sizes: dict[str, Any]) -> Any:
    return parts.ImageEncoderViT(
        img_size=sizes["side"],
        patch_size=sizes["patch"],
        embed_dim=sizes["width"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        window_size=sizes["window"],
        global_attn_indexes=sizes["global"],
        out_chans=sizes["channels"],
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        qkv_bias=True,
        use_rel_pos=True,
    )


def _prompts(parts: Any, sizes: dict[str, Any]) -> Any:
    grid = sizes["side"] // sizes["patch"]
    return parts.PromptEncoder(
        embed_dim=sizes["channels"],
        image_embedding_size=(grid, grid),
        input_image_size=(sizes["side"], sizes["side"]),
        mask_in_chans=16,
    )


def _decoder_sizes(parts: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    channels = sizes["channels"]
    return {
        "num_multimask_outputs": 3,
        "transformer": parts.TwoWayTransformer(
            depth=2, embedding_dim=channels, mlp_dim=sizes["decoder_mlp"], num_heads=8
        ),
        "transformer_dim": channels,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": sizes["iou_width"],
    }
