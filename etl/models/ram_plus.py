"""RAM++, the tagger: every tag has many descriptions, and the picture decides how much each of them counts.

Source: ``ram/models/ram_plus.py`` in xinyu1205/recognize-anything; paper arXiv 2310.15200.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from etl.errors import ConfigurationError
from etl.models.ram import TAG_LISTS, THRESHOLD_LISTS, RamHead
from etl.models.swin_tagger import HeadType, SwinTagger, Weights, label_rows
from etl.models.tag_lists import read_tags, read_thresholds

DESCRIPTIONS = 51  # of each tag: 50 by a language model, one from CLIP's templates


class RamPlusHead(RamHead):
    """RAM's head with label embeddings that are made for the picture.

    With the projected mean token ``c`` of the picture and the description embeddings ``e[tag, d]``::

        w[tag] = softmax over d of exp(reweight_scale) * (c / |c|) . e[tag, d]
        label embedding of the tag = sum over d of w[tag, d] * e[tag, d]

    which is computed in float32 whatever the layers' dtype: the scale multiplies a rounding by about fourteen.

    Args:
        n_tags: Tags asked for.
        vision_width: Width of the image tokens.
        descriptions: Of each tag; ``label_embed`` has a row for each, those of a tag one after the other.
        sizes: The other arguments of ``RamHead``.
    """

    def __init__(self, *, n_tags: int, vision_width: int, descriptions: int = DESCRIPTIONS, **sizes: int) -> None:
        super().__init__(n_tags=n_tags * descriptions, vision_width=vision_width, **sizes)
        self.descriptions = descriptions
        self.reweight_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def labels(self, image: torch.Tensor) -> torch.Tensor:
        """Label embeddings for projected image tokens: [batch, tags, embed_width]."""
        mean = image[:, 0].to(self.label_embed.dtype)
        direction = mean / mean.norm(dim=-1, keepdim=True)
        similar = (self.reweight_scale.exp() * direction) @ self.label_embed.T
        weights = similar.unflatten(-1, (-1, self.descriptions)).softmax(dim=-1)
        described = self.label_embed.view(-1, self.descriptions, self.label_embed.shape[1])
        return torch.einsum("btd,tdw->btw", weights, described).to(image.dtype)


class Tagger(SwinTagger):
    """RAM++ ready for inference."""

    family: ClassVar[str] = "ram-plus"
    head_type: ClassVar[HeadType] = RamPlusHead

    def _count(self, folder: Path, config: dict[str, Any], weights: Weights) -> int:
        head = config.get("head")
        rows, each = label_rows(folder, weights, "label_embed"), DESCRIPTIONS
        if isinstance(head, dict):
            each = int(head.get("descriptions", DESCRIPTIONS))
        if rows % each:
            raise ConfigurationError(
                f"the weights in {folder} have {rows} descriptions, which is not {each} for each tag",
                remedy="correct 'descriptions' under 'head' of config.json, or give the weights of RAM++",
            )
        return rows // each

    def _read_lists(self, folder: Path, config: dict[str, Any], n_tags: int) -> None:
        self.tags = read_tags(folder, TAG_LISTS, n_tags)
        self.thresholds = read_thresholds(folder, THRESHOLD_LISTS, n_tags)
