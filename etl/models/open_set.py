"""Own labels for RAM: their CLIP text embeddings, made as the embeddings of its own labels were.

Source: ``build_openset_label_embedding`` of ``ram/utils/openset_utils.py`` in xinyu1205/recognize-anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from transformers import CLIPTextModelWithProjection

from etl.errors import ConfigurationError
from etl.models.clip_text import TextEncoder
from etl.models.label_prompts import TEMPLATES, label_prompts

TEXTS_AT_ONCE = 256
LABELS_AT_ONCE = 256  # their sentences' vectors are held at once


class LabelEncoder(TextEncoder):
    """CLIP's text tower with its projection into the space of pictures; a folder of the family ``clip-text``."""

    network_class: ClassVar[Any] = CLIPTextModelWithProjection

    @property
    def width(self) -> int:
        return int(self.network.config.projection_dim)

    def _vectors_of(self, output: Any) -> Any:
        return output.text_embeds

    def label_vectors(self, labels: Sequence[str], templates: tuple[str, ...] = TEMPLATES) -> npt.NDArray[np.float32]:
        """One vector of length 1 per label: [labels, width].

        With the projected embedding ``t`` of each of the label's sentences::

            mean over sentences of t / |t|, divided by its own length

        Raises:
            ConfigurationError: A vector is not finite: the weights are broken.
        """
        rows = []
        for start in range(0, len(labels), LABELS_AT_ONCE):
            part = labels[start : start + LABELS_AT_ONCE]
            texts = [text for label in part for text in label_prompts(label, templates)]
            vectors = self.vectors(texts, TEXTS_AT_ONCE)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            means = vectors.reshape(len(part), len(templates), -1).mean(axis=1)
            rows.append(means / np.linalg.norm(means, axis=1, keepdims=True))
        vectors = np.concatenate(rows)
        if not np.isfinite(vectors).all():
            raise ConfigurationError(
                "the label encoder gave vectors that are not finite", remedy="add its weights again from a good copy"
            )
        return vectors
