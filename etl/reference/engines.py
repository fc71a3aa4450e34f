"""Upstream's networks behind the contracts of ``etl.models.contracts``: what a stage opens for ``engine: reference``.

Each holds a worker process in the reference interpreter, which has its network in memory. One picture at a time, in
float32: so no answer depends on its batch mates, whatever upstream's code does with batches. No import of torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from etl.reference.folders import check_upstream_folder
from etl.reference.process import Worker
from etl.reference.tasks import TASKS, check_task

if TYPE_CHECKING:
    from etl.models.grounding_dino import Raw
    from etl.models.sam import Segments


def open_reference(family: str, task: str, folder: Path, device: str, *, threads: int | None = None) -> Any:
    """Upstream's network of a folder of upstream's files, ready for inference.

    Args:
        family: The family.
        task: What the caller needs it for.
        folder: The folder: see ``etl.reference.folders``.
        device: ``cpu`` or ``cuda:N``.
        threads: That its torch may use; None takes as many as this process's torch.

    Returns:
        A Segmenter, Detector or Tagger of ``etl.models.contracts``, with ``close()``.

    Raises:
        UnknownNameError: The family has no reference engine.
        ReferenceLacksError: The reference environment has no package of upstream's for it.
        ConfigurationError: The engine does another task, there is no reference environment, or the folder is wrong.
        WorkerLostError: The worker died.
    """
    check_task(family, task)
    check_upstream_folder(folder, family)
    worker = Worker(device, _threads() if threads is None else threads)
    try:
        facts = worker.open(family, folder)
    except BaseException:
        worker.close()
        raise
    return _OPENED[TASKS[family]](worker, facts)


class _Reference:
    """A network in a worker."""

    def __init__(self, worker: Worker, facts: dict[str, Any]) -> None:
        self.worker = worker
        self.facts = facts

    def close(self) -> None:
        """End the worker; it ends with this process too."""
        self.worker.close()


class ReferenceSegmenter(_Reference):
    """SAM or SAM-HQ: one mask per box, from upstream's predictor."""

    def segment(
        self, pictures: Sequence[Image.Image], boxes: Sequence[npt.NDArray[np.float32]], batch_size: int
    ) -> list[Segments]:
        """Masks of the boxes ([boxes, 4] per picture, xyxy in its pixels); ``batch_size`` has no effect.

        Logits are upstream's; they become masks by the two interpolations that upstream's ``postprocess_masks`` is.
        """
        return [self._segments(picture, own) for picture, own in zip(pictures, boxes, strict=True)]

    def _segments(self, picture: Image.Image, boxes: npt.NDArray[np.float32]) -> Segments:
        import torch

        from etl.models.pixels import longest_edge_shape
        from etl.models.sam import Segments

        side = int(self.facts["side"])
        resized = longest_edge_shape(*picture.size, side)
        if not len(boxes):
            return Segments(torch.zeros(0, 1, 1), np.zeros(0, np.float32), picture.size, resized, side)
        answer = self.worker.ask({"picture": _pixels(picture), "boxes": np.asarray(boxes, np.float64)})
        return Segments(torch.from_numpy(answer["logits"]), answer["ious"], picture.size, resized, side)


class ReferenceDetector(_Reference):
    """GroundingDINO: boxes for the token ids of a prompt."""

    def __init__(self, worker: Worker, facts: dict[str, Any]) -> None:
        super().__init__(worker, facts)
        self._ids = cache(self._ask_tokens)

    @property
    def max_text_len(self) -> int:
        """Tokens a prompt may have, [CLS] and [SEP] included."""
        return int(self.facts["max_text_len"])

    def tokens(self, text: str) -> list[int]:
        """Token ids of a piece of text by upstream's tokenizer, without [CLS] and [SEP]."""
        return list(self._ids(text))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self.worker.ask({"ids": np.asarray(tokens, np.int64)}, do="text")["text"])

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels the network sees a picture at."""
        from etl.models.pixels import shortest_edge_shape

        return shortest_edge_shape(width, height, *self.facts["sides"])

    def takes(self, width: int, height: int) -> bool:
        """Whether a picture gives as many feature cells as the network has queries; very long ones do not."""
        across, down = self.shape(width, height)
        cells = sum(-(-across // stride) * -(-down // stride) for stride in self.facts["strides"])
        return bool(cells >= self.facts["queries"])

    def detect(self, pictures: Sequence[Image.Image], prompts: Sequence[Sequence[int]], batch_size: int) -> list[Raw]:
        """Boxes and token probabilities, one result per picture and its prompt; ``batch_size`` has no effect."""
        from etl.models.grounding_dino import Raw

        results = []
        for picture, prompt in zip(pictures, prompts, strict=True):
            answer = self.worker.ask({"picture": _pixels(picture), "ids": np.asarray(prompt, np.int64)})
            results.append(Raw(answer["boxes"], answer["probabilities"]))
        return results

    def _ask_tokens(self, text: str) -> tuple[int, ...]:
        return tuple(int(one) for one in self.worker.ask({}, do="tokens", text=text)["ids"])


class ReferenceTagger(_Reference):
    """RAM, RAM++ or Tag2Text.

    Attributes:
        tags: The tags in the order of the scores.
        thresholds: float64 [tags], as upstream's files and code have them; 1.0 for those that it never gives.
    """

    def __init__(self, worker: Worker, facts: dict[str, Any]) -> None:
        super().__init__(worker, facts)
        self.tags: list[str] = list(facts["tags"])
        self.thresholds: npt.NDArray[np.float64] = np.asarray(facts["thresholds"], np.float64)

    def scores(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Sigmoid scores [pictures, tags] of RGB pictures of any sizes."""
        return np.stack([self.worker.ask({"picture": _pixels(one)})["scores"] for one in pictures])


_OPENED: dict[str, type[_Reference]] = {
    "segmenter": ReferenceSegmenter,
    "grounder": ReferenceDetector,
    "tagger": ReferenceTagger,
}


def _pixels(picture: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB"))


def _threads() -> int:
    import torch

    return torch.get_num_threads()
