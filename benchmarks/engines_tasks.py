"""What is asked of the networks: pictures, boxes, crops and texts of fixed sizes, and one call per task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import engines_folders as folders
import numpy as np
import numpy.typing as npt
import torch
from engines_measure import frozen
from PIL import Image

from etl.models.families import FAMILIES, open_network
from etl.models.pixels import Preprocessor
from etl.models.tokens import CLS, DOT, SEP
from etl.stages.masks import encode

BEAMS, NEW_TOKENS = 5, 30  # as LAVIS, and as the catalog's models
BOXES = 10  # of a picture, where SAM is measured alone
CROPS = 5  # of a picture, in the whole chain
PICTURE = {"real": (1280, 768), "small": (320, 192)}  # GroundingDINO sees 1333 x 800 and 266 x 160
PHRASES = 15  # of one token each: 32 tokens with their full stops, [CLS] and [SEP]


@dataclass(frozen=True)
class Work:
    """What a picture of the benchmark has to it.

    Attributes:
        pictures: All of one size.
        boxes: float32 [BOXES, 4], xyxy in pixels; the same for every picture.
        crops: ``CROPS`` of every picture, one picture's after the other's.
        phrases: Words of the prompt.
        texts: Of different lengths.
    """

    pictures: Sequence[Image.Image]
    boxes: npt.NDArray[np.float32]
    crops: Sequence[Image.Image]
    phrases: Sequence[str]
    texts: Sequence[str]

    def part(self, start: int, count: int) -> Work:
        """Work whose first pictures and crops are those from ``start`` on."""
        pictures, crops = (many[start : start + count] for many in (self.pictures, self.crops))
        return dataclasses.replace(self, pictures=pictures, crops=crops)


def work_of(size: str, count: int) -> Work:
    """The same work for the same size and number of pictures."""
    random = np.random.default_rng(0)
    width, height = PICTURE[size]
    coarse = random.integers(0, 256, (count, height // 16, width // 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in coarse]
    low = random.uniform(0, 0.5, (BOXES, 2))
    shares = np.concatenate([low, low + random.uniform(0.2, 0.5, (BOXES, 2))], axis=1)
    boxes = shares * [width, height, width, height]
    places = [tuple(int(value) for value in box) for box in boxes[:CROPS]]
    return Work(
        pictures=pictures,
        boxes=boxes.astype(np.float32),
        crops=[picture.crop(place) for picture in pictures for place in places],
        phrases=folders.WORDS[:PHRASES],
        texts=[" ".join(folders.WORDS[: 2 + number % 20]) for number in range(CROPS * count)],
    )


def opened(name: str, folder: Path, device: str, dtype: str, **switches: Any) -> Any:
    """A network ready for inference; switches that its family has not are left out."""
    variant = folders.VARIANTS[name]
    module, _, loader = FAMILIES[variant.family].loaders[variant.task].partition(":")
    known = signature(getattr(import_module(module), loader)).parameters
    given = {key: value for key, value in switches.items() if key in known}
    return frozen(open_network(variant.family, variant.task, folder, device, dtype, **given))


class Ready:
    """A preprocessor that keeps what it made on the device: what is timed behind it is the network."""

    def __init__(self, before: Preprocessor) -> None:
        self.size = before.size
        self._before = before
        self._made: dict[str, torch.Tensor] = {}

    def square(self, pictures: Sequence[Image.Image], *given: Any) -> torch.Tensor:
        return self._once("square", pictures, given)

    def alike(self, pictures: Sequence[Image.Image], *given: Any) -> torch.Tensor:
        return self._once("alike", pictures, given)

    def padded(self, pictures: Sequence[Image.Image], *given: Any) -> torch.Tensor:
        return self._once("padded", pictures, given)

    def _once(self, way: str, pictures: Sequence[Image.Image], given: tuple[Any, ...]) -> torch.Tensor:
        key = repr((way, [id(picture) for picture in pictures], given))
        if key not in self._made:
            self._made[key] = getattr(self._before, way)(pictures, *given)
        return self._made[key]


def tag(engine: Any, work: Work, count: int) -> object:
    """Scores of so many pictures."""
    return engine.scores(work.pictures[:count])


def detect(engine: Any, work: Work, count: int) -> object:
    """Boxes of so many pictures for one prompt."""
    ids = [token for phrase in work.phrases for token in (*engine.tokens(phrase), DOT)]
    return engine.detect(work.pictures[:count], [[CLS, *ids, SEP]] * count, count)


def segment(engine: Any, work: Work, count: int, boxes: int = BOXES) -> object:
    """Masks at the pictures' size, as run lengths."""
    found = engine.segment(work.pictures[:count], [work.boxes[:boxes]] * count, count)
    return [encode(mask) for one in found for mask in one.masks()]


def caption(engine: Any, work: Work, count: int, tokens: int = NEW_TOKENS) -> object:
    """Captions of so many crops."""
    return engine.captions(work.crops[:count], batch_size=count, beams=BEAMS, max_new_tokens=tokens)


def embed(engine: Any, work: Work, count: int) -> object:
    """Vectors of so many texts."""
    return engine.vectors(work.texts[:count], count)


Ask = Callable[[Any, Work, int], object]
ASK: Mapping[str, Ask] = {
    "tagger": tag,
    "grounder": detect,
    "segmenter": segment,
    "captioner": caption,
    "embedder": embed,
}
ITEMS = {"tagger": "image", "grounder": "image", "segmenter": "image", "captioner": "crop", "embedder": "text"}


@torch.inference_mode()
def encode_pictures(engine: Any, work: Work, count: int) -> Any:
    """SAM's features of so many pictures: the encoder alone where the preprocessor is ``Ready``."""
    return engine._encode(work.pictures[:count])


def decoder(engine: Any, work: Work, count: int) -> Callable[[], object]:
    """A call of SAM's decoder for the boxes of so many pictures, whose features are there."""
    features = encode_pictures(engine, work, count)
    scaled = [engine._scaled(work.boxes, picture.size) for picture in work.pictures[:count]]
    return torch.inference_mode()(lambda: engine._decode(features, scaled))
