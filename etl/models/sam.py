"""SAM, the segmenter: one mask per box, upsampled to the picture's own pixels.

The encoder has the dtype that is asked for. Everything behind it, the positional matrix of the prompts first of all,
stays float32: bfloat16 cannot tell neighbouring pixels apart beyond 256, and the decoder is a hundredth of the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from transformers import SamModel

from etl.models.batches import fill, model_batches, steady_size
from etl.models.pixels import Preprocessor, longest_edge_shape
from etl.models.reading import DTYPES, read_network

# Boxes per call of the decoder on a GPU, of one picture or many; every call is filled up to as many, so that its shape
# never changes. 32 boxes of a full-size SAM-HQ take about 4 GB. On a CPU a call has one box: with several threads the
# last bits of a row depend on its place among the others.
BOXES_PER_CALL = 32
MASK_PIXELS_AT_ONCE = 2**26  # 256 MiB of float32 logits, at the picture's size or the padded square's if that is larger


@dataclass(frozen=True)
class Segments:
    """The masks of one picture's boxes, still small.

    Attributes:
        logits: float32 [boxes, low, low] over the padded square.
        ious: float32 [boxes], the network's own estimate.
        size: Width and height of the picture, pixels.
        resized: Width and height of the picture inside the padded square.
        side: Side of the padded square.
    """

    logits: torch.Tensor
    ious: npt.NDArray[np.float32]
    size: tuple[int, int]
    resized: tuple[int, int]
    side: int

    def masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        """One bool mask [height, width] per box, a bounded number in memory at once."""
        at_once = max(1, MASK_PIXELS_AT_ONCE // max(self.size[0] * self.size[1], self.side**2))
        for start in range(0, len(self.logits), at_once):
            yield from upscale(self.logits[start : start + at_once], self.side, self.resized, self.size)


@dataclass(frozen=True)
class Features:
    """What the decoder reads of pictures: tensors [pictures, channels, height, width], float32.

    Attributes:
        image: The image embeddings.
        fine: Features at the masks' size, of a network that has them.
    """

    image: torch.Tensor
    fine: torch.Tensor | None = None

    def of(self, rows: torch.Tensor) -> Features:
        """The features of the pictures of these rows, repeated where rows share one."""
        return Features(self.image[rows], None if self.fine is None else self.fine[rows])

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """Features of several batches of pictures as one."""
        fine = [part.fine for part in parts if part.fine is not None]
        return Features(torch.cat([part.image for part in parts]), torch.cat(fine) if fine else None)


class Segmenter:
    """SAM ready for inference."""

    family: ClassVar[str] = "sam"
    network_class: ClassVar[Any] = SamModel

    def __init__(
        self, folder: Path, device: str, dtype: str, *, attention: str = "sdpa", compiled: bool = False
    ) -> None:
        """Read a folder of weights.

        Args:
            folder: The folder.
            device: ``cpu`` or ``cuda:N``.
            dtype: Of the encoder; all else is float32.
            attention: ``sdpa`` or ``eager``.
            compiled: Whether the encoder goes through ``torch.compile`` when it is first used.

        Raises:
            ConfigurationError: The folder is wrong or not whole.
        """
        self.preprocessor = Preprocessor.read(folder, "longest_edge")
        self.network = read_network(self.network_class, folder, self.family, device, "float32", attention)
        self.network.vision_encoder.to(DTYPES[dtype])
        if compiled:
            self.network.vision_encoder.compile()
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def segment(
        self, pictures: Sequence[Image.Image], boxes: Sequence[npt.NDArray[np.float32]], batch_size: int
    ) -> list[Segments]:
        """One mask per box; pictures without boxes cost nothing.

        Args:
            pictures: RGB pictures of any sizes.
            boxes: Per picture [boxes, 4], xyxy in its pixels.
            batch_size: Pictures whose boxes are decoded together, and that are encoded at once unless that shows.
        """
        results = [self._none(picture.size) for picture in pictures]
        wanted = [index for index, own in enumerate(boxes) if len(own)]
        for batch, count in model_batches(wanted, batch_size, self.dtype):
            features = self._encode([pictures[index] for index in batch])
            members = batch[:count]
            logits, ious = self._decode(features, [self._scaled(boxes[i], pictures[i].size) for i in members])
            for index, part, own in zip(members, logits, ious, strict=True):
                size = pictures[index].size
                results[index] = Segments(part, own.cpu().numpy(), size, self._resized(size), self.side)
        return results

    @property
    def side(self) -> int:
        """Side of the padded square that the network sees, pixels."""
        return int(self.network.config.vision_config.image_size)

    def _none(self, size: tuple[int, int]) -> Segments:
        return Segments(torch.zeros(0, 1, 1), np.zeros(0, np.float32), size, self._resized(size), self.side)

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        return longest_edge_shape(*size, self.preprocessor.size["longest_edge"])

    def _pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        sizes = [self._resized(picture.size) for picture in pictures]
        return self.preprocessor.padded(pictures, sizes, self.side, self.device)

    def _scaled(self, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
        """Boxes in the pixels of the padded square: float32 [boxes, 4]."""
        width, height = self._resized(size)
        scale = np.asarray([width / size[0], height / size[1]] * 2)
        return torch.from_numpy((boxes * scale).astype(np.float32))

    def _encode(self, pictures: Sequence[Image.Image]) -> Features:
        at_once = steady_size(len(pictures), self.device, self.dtype)
        parts = []
        for start in range(0, len(pictures), at_once):
            pixels = self._pixels(pictures[start : start + at_once])
            parts.append(self._features(pixels.to(DTYPES[self.dtype])))
        return Features.join(parts)

    def _features(self, pixels: torch.Tensor) -> Features:
        """Features of one batch of pixels [pictures, 3, side, side]."""
        return Features(self.network.get_image_embeddings(pixels).float())

    def _decode(
        self, features: Features, boxes: Sequence[torch.Tensor]
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Mask logits and IoU estimates, one tensor each per picture."""
        counts = [len(own) for own in boxes]
        owners = [index for index, count in enumerate(counts) for _ in range(count)]
        rows = torch.cat(list(boxes))
        size = steady_size(BOXES_PER_CALL, self.device, "float32")
        logits, ious = [], []
        for start in range(0, len(rows), size):
            members = range(start, min(start + size, len(rows)))
            call = torch.tensor(fill(members, size))
            owner = torch.tensor([owners[row] for row in call.tolist()], device=self.device)
            mask, iou = self._masks(features.of(owner), rows[call].to(self.device))
            logits.append(mask[: len(members)])
            ious.append(iou[: len(members)])
        return torch.split(torch.cat(logits), counts), torch.split(torch.cat(ious), counts)

    def _masks(self, features: Features, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [rows, low, low] and IoU estimates [rows] of rows of features and a box each, [rows, 4]."""
        output = self.network(image_embeddings=features.image, input_boxes=boxes[:, None], multimask_output=False)
        return output.pred_masks[:, 0, 0], output.iou_scores[:, 0, 0]


def upscale(logits: torch.Tensor, side: int, resized: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Masks at the picture's size: upsampled to the padded square, cut to the picture, resized to it, above zero.

    Args:
        logits: [masks, low, low] over the padded square.
        side: Side of the padded square, pixels.
        resized: Width and height of the picture inside it.
        size: Width and height of the picture.

    Returns:
        bool [masks, height, width].
    """
    square = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    inside = square[..., : resized[1], : resized[0]]
    full = functional.interpolate(inside, (size[1], size[0]), mode="bilinear", align_corners=False)
    masks: npt.NDArray[np.bool_] = (full[:, 0] > 0).cpu().numpy()
    return masks
