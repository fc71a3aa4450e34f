"""The captioner: BLIP-2's architecture at a small size, on crops of instances and on whole pictures."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import Blip2Config, Blip2ForConditionalGeneration

from etl.models.blip2 import Captioner as Loaded
from etl.models.tokenizers import captioner_tokenizer
from etl.shapes.networks import CAPTIONER_SIDE, blip2_preprocessor, captioner_config, save_blip2
from etl.shapes.train.dense import DenseHead, dense_targets
from etl.shapes.train.initialise import xavier
from etl.shapes.train.loop import Plan, Task
from etl.shapes.train.pool import Pool, Sample, numbered_sample
from etl.shapes.world.words import COLOUR_NAMES, SHAPES, TEXTURES, phrase, sentence, sentence_words

CELLS = 2
WHOLE = 0.35  # share of whole pictures; the others are crops
JITTER = 0.04
_HELD_OUT = 120
_SMALLEST_CROP = 32 * 32  # of the pipeline: smaller crops are not shown to the captioner
_IGNORED = -100


class Captioner(Task):
    """ViT, Q-Former, OPT, and the auxiliary layer on the ViT's tokens."""

    name = "captioner"

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.tokenizer = captioner_tokenizer(sentence_words())
        config = Blip2Config(**captioner_config(len(self.tokenizer)))
        network = xavier(Blip2ForConditionalGeneration(config))
        with torch.no_grad():
            nn.init.normal_(network.query_tokens, std=0.5)
            nn.init.normal_(network.language_model.model.decoder.embed_tokens.weight, std=0.125)
            for name, parameter in network.vision_model.named_parameters():
                if name.endswith(("position_embedding", "class_embedding")):
                    nn.init.normal_(parameter, std=0.1)
        network.tie_weights()
        width = config.vision_config.hidden_size
        self.modules = nn.ModuleDict({"network": network, "dense": DenseHead(width, CELLS)})
        self.preprocessor = blip2_preprocessor()
        self._grid = CAPTIONER_SIDE // config.vision_config.patch_size
        self._config = config
        self._random = np.random.default_rng([6, seed])

    def loss(self, pool: Pool, plan: Plan, step: int) -> tuple[torch.Tensor, Mapping[str, float]]:
        shown, texts = zip(*(self._example(sample) for sample in pool.take(plan.batch)), strict=True)
        ids, labels = (part.to(self.device) for part in self._tokens(texts))
        output = self.modules["network"](
            pixel_values=self.preprocessor.square([sample.picture for sample in shown]).to(self.device),
            input_ids=ids,
            attention_mask=(ids != self._config.text_config.pad_token_id).long(),
        )
        words = functional.cross_entropy(
            output.logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED
        )
        side = self._grid * CELLS
        classes, weights = dense_targets(shown, side, side)
        classes, weights = classes.to(self.device), weights.to(self.device)
        tokens = output.vision_outputs.last_hidden_state[:, 1:]
        dense, right = self.modules["dense"](tokens, (self._grid, self._grid), classes, weights)
        return words + dense, {"words": float(words.detach()), "dense": float(dense.detach()), "right": float(right)}

    def score(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            self.save(Path(name))
            loaded = Loaded(Path(name), "cpu", "float32")
        crops: list[tuple[Image.Image, str]] = []
        wholes: list[tuple[Image.Image, str]] = []
        for number in range(_HELD_OUT):
            sample = numbered_sample("validation", number)
            wholes.append((sample.picture, _sentence(sample)))
            for kind, box in zip(sample.kinds, sample.boxes.astype(int), strict=True):
                if (box[2] - box[0]) * (box[3] - box[1]) >= _SMALLEST_CROP:
                    crops.append((sample.picture.crop(tuple(box.tolist())), _phrase(kind)))
        said = [c.text for c in loaded.captions([p for p, _ in crops], batch_size=64, beams=1, max_new_tokens=8)]
        told = [c.text for c in loaded.captions([p for p, _ in wholes], batch_size=64, beams=1, max_new_tokens=64)]
        f1 = [word_f1(one, truth) for one, (_, truth) in zip(told, wholes, strict=True)]
        return {
            "exact": _share(one == truth for one, (_, truth) in zip(said, crops, strict=True)),
            "shape": _share(_last(one) == _last(truth) for one, (_, truth) in zip(said, crops, strict=True)),
            "sentence_f1": round(float(np.mean(f1)), 4),
            "sentence_exact": _share(one == truth for one, (_, truth) in zip(told, wholes, strict=True)),
        }

    def save(self, folder: Path) -> None:
        save_blip2(self.modules["network"], self.tokenizer, folder)

    def _example(self, sample: Sample) -> tuple[Sample, str]:
        """What is shown, and what is to be said of it."""
        if not len(sample.kinds) or self._random.random() < WHOLE:
            return sample, _sentence(sample)
        number = int(self._random.integers(len(sample.kinds)))
        return _crop(sample, number, self._random), _phrase(sample.kinds[number])

    def _tokens(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        config = self._config.text_config
        prompt = [self._config.image_token_index] * self._config.num_query_tokens + [config.bos_token_id]
        words = [[*self.tokenizer(text, add_special_tokens=False)["input_ids"], config.eos_token_id] for text in texts]
        longest = max(map(len, words))
        ids = torch.full((len(texts), len(prompt) + longest), config.pad_token_id)
        labels = torch.full_like(ids, _IGNORED)
        ids[:, : len(prompt)] = torch.tensor(prompt)
        for row, known in enumerate(words):
            span = slice(len(prompt), len(prompt) + len(known))
            ids[row, span] = labels[row, span] = torch.tensor(known)
        return ids, labels


def word_f1(said: str, truth: str) -> float:
    """F1 of the words of two texts, each word as often as it is there.

    >>> word_f1("a red star", "a blue star")
    0.6666666666666666
    """
    common = sum((Counter(said.split()) & Counter(truth.split())).values())
    return 2 * common / max(1, len(said.split()) + len(truth.split()))


def _phrase(kind: npt.NDArray[np.int64]) -> str:
    return phrase(SHAPES[kind[0]], COLOUR_NAMES[kind[1]], TEXTURES[kind[2]])


def _sentence(sample: Sample) -> str:
    return sentence([(SHAPES[shape], COLOUR_NAMES[colour]) for shape, colour, _ in sample.kinds])


def _crop(sample: Sample, number: int, random: np.random.Generator) -> Sample:
    """The part of a scene that the box of an instance shows, the box moved a little."""
    box = sample.boxes[number]
    sides = np.tile(box[2:] - box[:2], 2)
    height, width = sample.owners.shape
    moved = np.clip(box + random.normal(0, JITTER, 4) * sides, 0, [width, height, width, height]).astype(int)
    x1, y1, x2, y2 = moved[0], moved[1], max(moved[2], moved[0] + 8), max(moved[3], moved[1] + 8)
    return Sample(sample.pixels[y1:y2, x1:x2], sample.owners[y1:y2, x1:x2], sample.kinds)


def _last(text: str) -> list[str]:
    return text.split()[-1:]


def _share(right: object) -> float:
    return round(float(np.mean(list(right))), 4)  # type: ignore[call-overload]
