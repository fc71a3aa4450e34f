"""The embedder: the architecture of CLIP's text tower at a small size; alike are the vectors of what means alike."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from etl.models.clip_text import TextEncoder
from etl.models.tokenizers import encoder_tokenizer
from etl.shapes.networks import encoder_config, save_clip_text
from etl.shapes.train.initialise import xavier
from etl.shapes.train.loop import Plan, Task
from etl.shapes.train.pool import Pool
from etl.shapes.world.words import COLOUR_NAMES, NUMBERS, SHAPES, TAGS, TEXTURES, phrase, sentence, sentence_words

WORDS = [*TAGS, *NUMBERS[1:]]  # what a text can be about
# Every phrase, and every shape and colour by itself, as labels and prompts have them.
PHRASES = [*SHAPES, *COLOUR_NAMES, *(phrase(*kind) for kind in itertools.product(SHAPES, COLOUR_NAMES, TEXTURES))]
_HELD_OUT = 400


class Embedder(Task):
    """CLIP's text tower, whose cosines become the shares of attributes that two texts have in common."""

    name = "embedder"

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.tokenizer = encoder_tokenizer(sentence_words())
        network = xavier(CLIPTextModel(CLIPTextConfig(**encoder_config(self.tokenizer))))
        for name, parameter in network.named_parameters():
            if name.endswith(("token_embedding.weight", "position_embedding.weight")):
                nn.init.normal_(parameter, std=0.25)
        self.modules = nn.ModuleDict({"network": network})
        self._random = np.random.default_rng([11, seed])

    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        half = plan.batch // 2
        texts = [str(text) for text in self._random.choice(PHRASES, half, replace=False)]
        texts += _sentences(self._random, plan.batch - half)
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        output = self.modules["network"](input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        vectors = functional.normalize(output.pooler_output.float(), dim=1)
        off = vectors @ vectors.T - torch.from_numpy(shared(texts)).to(self.device)
        return 100 * (off**2).mean(), {"off": float(off.detach().abs().mean())}

    def score(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            self.save(Path(name))
            encoder = TextEncoder(Path(name), "cpu", "float32")
        phrases, told = encoder.vectors(PHRASES, 64), _sentences(np.random.default_rng(12), _HELD_OUT)
        apart = _cosines(phrases) - 2 * np.eye(len(PHRASES))
        return {
            "largest_cosine": round(float(apart.max()), 4),
            "off": round(float(np.abs(_cosines(phrases) - shared(PHRASES)).mean()), 4),
            "off_sentences": round(float(np.abs(_cosines(encoder.vectors(told, 64)) - shared(told)).mean()), 4),
            "probe": _probe(phrases),
        }

    def save(self, folder: Path) -> None:
        save_clip_text(self.modules["network"], self.tokenizer, folder)


def shared(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """How much every two texts have in common: the cosine of their sets of attributes, float32 [texts, texts].

    >>> shared(["red circle", "striped red circle", "blue star"]).round(2).tolist()[0]
    [1.0, 0.8199999928474426, 0.0]
    """
    about = np.asarray([[word in text.split() for word in WORDS] for text in texts], np.float32)
    return _cosines(about)


def _cosines(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    scaled = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return np.asarray(scaled @ scaled.T, dtype=np.float32)


def _sentences(random: np.random.Generator, count: int) -> list[str]:
    kinds = [(shape, colour) for shape in SHAPES for colour in COLOUR_NAMES]
    chosen = (random.integers(len(kinds), size=random.integers(1, len(NUMBERS))) for _ in range(count))
    return [sentence([kinds[kind] for kind in some]) for some in chosen]


def _probe(vectors: npt.NDArray[np.float32]) -> float:
    """Share of phrases whose shape, colour and texture a linear layer fitted on the other half names."""
    truth = np.asarray([[word in text.split() for word in TAGS] for text in PHRASES], np.float64)
    inputs = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1).astype(np.float64)
    order = np.random.default_rng(13).permutation(len(PHRASES))
    right = 0
    for own, other in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        gram = inputs[other].T @ inputs[other] + 1e-2 * np.eye(inputs.shape[1])
        said = inputs[own] @ np.linalg.solve(gram, inputs[other].T @ truth[other]) > 0.5
        right += int((said == (truth[own] > 0)).all(axis=1).sum())
    return round(right / len(PHRASES), 4)
