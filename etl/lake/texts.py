"""The text an instance is embedded as; embedder and manifest exporter must agree on it to the letter."""

from __future__ import annotations


def caption_for_embedding(label: str, caption: str) -> str:
    """The caption, led by the label where it does not name it, as InstanceDiffusion's data generation does.

    >>> caption_for_embedding("dog", "a brown Dog"), caption_for_embedding("dog", "an animal")
    ('a brown Dog', 'dog. an animal')
    """
    return caption if label.lower() in caption.lower() else f"{label}. {caption}"
