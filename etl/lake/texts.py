"""Texts that two parts of the system must form alike: who embeds them and who looks the embeddings up."""

from __future__ import annotations


def caption_for_embedding(label: str, caption: str) -> str:
    """The text whose embedding stands for an instance: its caption, led by the label where the caption lacks it.

    >>> caption_for_embedding("Dog", "a brown dog"), caption_for_embedding("dog", "an animal")
    ('a brown dog', 'dog. an animal')
    """
    return caption if label.lower() in caption.lower() else f"{label}. {caption}"
