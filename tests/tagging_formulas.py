"""What RAM, RAM++ and Tag2Text compute, written out in numpy from the papers' formulas, one thing after the other."""

from __future__ import annotations

from math import erf

import numpy as np

Weights = dict[str, np.ndarray]


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def tagging_head(w: Weights, queries: np.ndarray, image: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """Queries [tags, width] after the layers, one attention head after the other; image tokens are [tokens, source]."""
    x = queries
    for number in range(layers):
        layer = f"tagging_head.encoder.layer.{number}"
        q, k, v = (
            linear(w, f"{layer}.crossattention.self.{name}", given)
            for given, name in ((x, "query"), (image, "key"), (image, "value"))
        )
        size = q.shape[1] // heads
        parts = []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            logits = q[:, columns] @ k[:, columns].T / np.sqrt(size)
            share = np.exp(logits - logits.max(1, keepdims=True))
            parts.append(share / share.sum(1, keepdims=True) @ v[:, columns])
        attended = linear(w, f"{layer}.crossattention.output.dense", np.concatenate(parts, 1))
        x = norm(w, f"{layer}.crossattention.output.LayerNorm", attended + x)
        inner = linear(w, f"{layer}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / np.sqrt(2)))
        x = norm(w, f"{layer}.output.LayerNorm", linear(w, f"{layer}.output.dense", inner) + x)
    return x


def ram(w: Weights, tokens: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """RAM's logits [tags] of one picture's tokens [tokens, width]."""
    queries = np.maximum(linear(w, "wordvec_proj", w["label_embed"]), 0)
    hidden = tagging_head(w, queries, linear(w, "image_proj", tokens), layers, heads)
    return linear(w, "fc", hidden)[:, 0]


def ram_plus(w: Weights, tokens: np.ndarray, descriptions: int, layers: int, heads: int) -> np.ndarray:
    """RAM++'s logits [tags] of one picture's tokens, one tag's descriptions after the other's."""
    image = linear(w, "image_proj", tokens)
    direction = image[0] / np.sqrt((image[0] ** 2).sum())
    labels = []
    for start in range(0, len(w["label_embed"]), descriptions):
        own = w["label_embed"][start : start + descriptions]
        similar = np.asarray([np.exp(w["reweight_scale"]) * np.dot(direction, one) for one in own])
        share = np.exp(similar) / np.exp(similar).sum()
        labels.append(sum(part * one for part, one in zip(share, own, strict=True)))
    return ram({**w, "label_embed": np.stack(labels)}, tokens, layers, heads)


def tag2text(w: Weights, tokens: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """Tag2Text's logits [tags] of one picture's tokens: neither of the two inputs is projected."""
    hidden = tagging_head(w, w["label_embed.weight"], tokens, layers, heads)
    return np.asarray([np.dot(w["fc.W"][0, tag], hidden[tag]) + w["fc.b"][0, tag] for tag in range(len(hidden))])
