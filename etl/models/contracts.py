"""What a stage asks of a network, one protocol per task; every family that does a task fulfils its protocol.

No import of torch here: stages name these types without paying for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from etl.models.blip2 import Caption
    from etl.models.grounding_dino import Raw
    from etl.models.sam import Segments

Task = Literal["tagger", "grounder", "segmenter", "captioner", "embedder", "label-encoder"]


class Tagger(Protocol):
    """Says of every tag of its list how sure it is that a picture shows it.

    Attributes:
        tags: The tags in the order of the scores. Names may repeat (a noun and a verb): the position is the key.
        thresholds: float64 [tags]; a score must be above its threshold, so that 1.0 switches a tag off.
    """

    tags: list[str]
    thresholds: npt.NDArray[np.float64]

    def scores(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Sigmoid scores [pictures, tags] of one model batch of RGB pictures of any sizes."""
        ...


class OpenSetTagger(Tagger, Protocol):
    """A tagger that can be asked for other tags than those it was trained on."""

    def ask_for(self, labels: Sequence[str], vectors: npt.NDArray[np.float32], threshold: float) -> None:
        """Replace the tags by ``labels``, given by their vectors [labels, width], under one threshold."""
        ...


class Detector(Protocol):
    """Finds boxes for the phrases of a prompt."""

    @property
    def max_text_len(self) -> int:
        """Tokens a prompt may have, [CLS] and [SEP] included."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Token ids of a piece of text, without [CLS] and [SEP]."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels the network sees a picture at."""
        ...

    def takes(self, width: int, height: int) -> bool:
        """Whether the network can look at a picture of this size."""
        ...

    def detect(self, pictures: Sequence[Image.Image], prompts: Sequence[Sequence[int]], batch_size: int) -> list[Raw]:
        """Boxes and token probabilities, one result per picture (all of one ``shape``) and its prompt."""
        ...


class Segmenter(Protocol):
    """Gives one mask per box."""

    def segment(
        self, pictures: Sequence[Image.Image], boxes: Sequence[npt.NDArray[np.float32]], batch_size: int
    ) -> list[Segments]:
        """Masks of the boxes ([boxes, 4] per picture, xyxy in its pixels, at least one)."""
        ...


class Captioner(Protocol):
    """Says in a sentence what a picture shows."""

    def captions(
        self,
        pictures: Sequence[Image.Image],
        *,
        batch_size: int,
        prompt: str = "",
        beams: int = 5,
        max_new_tokens: int = 30,
    ) -> list[Caption]:
        """One caption per picture; the prompt, which it goes on from, is not part of it."""
        ...


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    @property
    def width(self) -> int:
        """Length of a vector."""
        ...

    def vectors(self, texts: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
        """One vector per text: [texts, width]; a text that is too long is cut."""
        ...
