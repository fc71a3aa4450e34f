"""Tag2Text, the tagger: RAM's forerunner, with label embeddings and a last layer of its own for every tag.

Source: ``ram/models/tag2text.py`` and ``GroupWiseLinear`` of ``ram/models/utils.py`` in xinyu1205/recognize-anything;
paper arXiv 2303.05657. Its captioner is ``etl.models.tag2text_captions``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from etl.models.swin_tagger import HeadType, SwinTagger, Weights, label_rows
from etl.models.tag_lists import TAG_LIST, made_thresholds, read_tags
from etl.models.tagging_head import TaggingHead

TAG_LISTS = ("tag2text_ori_tag_list.txt", TAG_LIST)
ENCODER, DECODER = "tag_encoder.", "text_decoder."
# Upstream has no file of thresholds; these numbers stand in its code and its inference script. They are what a folder
# means whose config.json has no "tagging". Numbers, not names, are the key: names repeat in the list.
TAGGING: dict[str, Any] = {
    "threshold": 0.68,
    "overrides": {"2701": 0.7, "2828": 0.7, "1167": 0.7},  # person, man, woman
    "deleted": [127, 2961, 3351, 3265, 3338, 3355, 3359],  # a quarter, back, and numbers from one to five
}


class _GroupWise(nn.Module):
    """One weight vector and one bias per tag: ``logit[tag] = W[tag] . x[tag] + b[tag]``."""

    def __init__(self, n_tags: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(1, n_tags, width))
        self.b = nn.Parameter(torch.zeros(1, n_tags))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.einsum("btw,tw->bt", hidden, self.W[0]) + self.b


class Tag2TextHead(nn.Module):
    """From image tokens to one logit per tag.

    With the image tokens ``v``, label embeddings ``e`` and the tagging head ``T``: ``logits = fc(T(e, v))``, ``fc``
    group-wise; there is no projection of either.

    Args:
        n_tags: Tags asked for.
        vision_width: Width of the image tokens.
        hidden_size: Width of the queries (768 upstream).
        layers: Cross-attention layers.
        heads: Attention heads.
        intermediate_size: Width of the feed-forward networks.
    """

    def __init__(
        self, *, n_tags: int, vision_width: int, hidden_size: int, layers: int, heads: int, intermediate_size: int
    ) -> None:
        super().__init__()
        self.label_embed = nn.Embedding(n_tags, hidden_size)
        self.tagging_head = TaggingHead(hidden_size, vision_width, layers, heads, intermediate_size)
        self.fc = _GroupWise(n_tags, hidden_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tags] of image tokens [batch, tokens, vision_width]."""
        logits: torch.Tensor = self.fc(self.tagging_head(self.label_embed.weight[None], tokens))
        return logits


class Tagger(SwinTagger):
    """Tag2Text's tagger ready for inference; its captioner's weights in the same folder are not read."""

    family: ClassVar[str] = "tag2text"
    head_type: ClassVar[HeadType] = Tag2TextHead
    others: ClassVar[tuple[str, ...]] = (ENCODER, DECODER)

    def _count(self, folder: Path, config: dict[str, Any], weights: Weights) -> int:
        return label_rows(folder, weights, "label_embed.weight")

    def _read_lists(self, folder: Path, config: dict[str, Any], n_tags: int) -> None:
        self.tags = read_tags(folder, TAG_LISTS, n_tags)
        self.thresholds = made_thresholds(f"'tagging' of {folder}/config.json", config.get("tagging", TAGGING), n_tags)

    def names(self, scores: npt.NDArray[np.float32]) -> list[str]:
        """The tags of one picture in the order of the list, a name twice when both of its tags are meant.

        Scores are rounded as the stage ``tag`` rounds them.
        """
        chosen = np.flatnonzero(np.round(scores.astype(np.float64), 4) > self.thresholds)
        return [self.tags[index] for index in chosen]
