"""RAM, the tagger: it asks the picture for every tag by the tag's CLIP text embedding, also for tags of one's own.

Source: ``ram/models/ram.py`` in xinyu1205/recognize-anything; paper arXiv 2306.03514.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from etl.errors import ConfigurationError
from etl.models.swin_tagger import SWIN as SWIN  # named here too: a tagger's folder is written by these names
from etl.models.swin_tagger import HeadType, SwinTagger, Weights, label_rows
from etl.models.tag_lists import TAG_LIST as TAG_LIST
from etl.models.tag_lists import THRESHOLDS as THRESHOLDS
from etl.models.tag_lists import read_tags, read_thresholds
from etl.models.tagging_head import TaggingHead

TAG_LISTS, THRESHOLD_LISTS = ("ram_tag_list.txt", TAG_LIST), ("ram_tag_list_threshold.txt", THRESHOLDS)


class RamHead(nn.Module):
    """From image tokens to one logit per tag.

    With the image tokens ``v`` (``v[0]`` their mean), label embeddings ``e`` and the tagging head ``T``::

        logits = fc(T(relu(wordvec_proj(e)), image_proj(v)))

    Args:
        n_tags: Tags asked for.
        vision_width: Width of the image tokens.
        embed_width: Width of label embeddings and projected image tokens (512 upstream).
        hidden_size: Width of the queries (768 upstream).
        layers: Cross-attention layers.
        heads: Attention heads.
        intermediate_size: Width of the feed-forward networks.
    """

    def __init__(
        self,
        *,
        n_tags: int,
        vision_width: int,
        embed_width: int,
        hidden_size: int,
        layers: int,
        heads: int,
        intermediate_size: int,
    ) -> None:
        super().__init__()
        self.image_proj = nn.Linear(vision_width, embed_width)
        self.label_embed = nn.Parameter(torch.zeros(n_tags, embed_width))
        self.wordvec_proj = nn.Linear(embed_width, hidden_size)
        self.tagging_head = TaggingHead(hidden_size, embed_width, layers, heads, intermediate_size)
        self.fc = nn.Linear(hidden_size, 1)

    def labels(self, image: torch.Tensor) -> torch.Tensor:
        """Label embeddings for projected image tokens: [1 or batch, tags, embed_width]."""
        return self.label_embed[None].to(image.dtype)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tags] of image tokens [batch, tokens, vision_width]."""
        image = self.image_proj(tokens)
        queries = functional.relu(self.wordvec_proj(self.labels(image)))
        logits: torch.Tensor = self.fc(self.tagging_head(queries, image)).squeeze(-1)
        return logits


class Tagger(SwinTagger):
    """RAM ready for inference."""

    family: ClassVar[str] = "ram"
    head_type: ClassVar[HeadType] = RamHead

    def _count(self, folder: Path, config: dict[str, Any], weights: Weights) -> int:
        return label_rows(folder, weights, "label_embed")

    def _read_lists(self, folder: Path, config: dict[str, Any], n_tags: int) -> None:
        self.tags = read_tags(folder, TAG_LISTS, n_tags)
        self.thresholds = read_thresholds(folder, THRESHOLD_LISTS, n_tags)

    def ask_for(self, labels: Sequence[str], vectors: npt.NDArray[np.float32], threshold: float) -> None:
        """Replace the tags: upstream's open set.

        Args:
            labels: The new tags.
            vectors: Their text embeddings by the CLIP that RAM was trained with (ViT-B/16), of length 1: [labels, 512].
            threshold: The threshold of each.

        Raises:
            ConfigurationError: The vectors are of another CLIP: their width differs.
        """
        width = self.head.label_embed.shape[1]
        if vectors.shape != (len(labels), width):
            raise ConfigurationError(
                f"{len(labels)} labels are given as vectors {list(vectors.shape)}, the tagger needs {width} numbers",
                remedy="take the encoder that RAM's own labels were embedded with: CLIP ViT-B/16 with its projection",
            )
        self.head.label_embed = nn.Parameter(torch.from_numpy(vectors).to(self.device), requires_grad=False)
        self.tags = list(labels)
        self.thresholds = np.full(len(labels), threshold, dtype=np.float64)
