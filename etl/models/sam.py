"""SAM, the segmenter: one mask per box, upsampled to the picture's own pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from transformers import SamModel

from etl.models.batches import model_batches
from etl.models.pixels import Preprocessor, longest_edge_shape
from etl.models.reading import DTYPES, read_network

BOXES_PER_CALL = 64
MASK_PIXELS_AT_ONCE = 2**26  # 256 MiB of float32 logits at the picture's size


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
        at_once = max(1, MASK_PIXELS_AT_ONCE // (self.size[0] * self.size[1]))
        for start in range(0, len(self.logits), at_once):
            yield from upscale(self.logits[start : start + at_once], self.side, self.resized, self.size)


class Segmenter:
    """SAM ready for inference."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole.
        """
        self.preprocessor = Preprocessor.read(folder, "longest_edge")
        self.network = read_network(SamModel, folder, "sam", device, dtype)
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def segment(
        self, pictures: Sequence[Image.Image], boxes: Sequence[npt.NDArray[np.float32]], batch_size: int
    ) -> list[Segments]:
        """One mask per box.

        Args:
            pictures: RGB pictures of any sizes.
            boxes: Per picture [boxes, 4], xyxy in its pixels; at least one.
            batch_size: Pictures that are encoded at once; all boxes of a picture are decoded together.
        """
        results: list[Segments] = []
        for batch, count in model_batches(range(len(pictures)), batch_size, self.dtype):
            pixels = torch.stack([self._pixels(pictures[i]) for i in batch]).to(self.device, DTYPES[self.dtype])
            embeddings = self.network.get_image_embeddings(pixels)
            results += [
                self._decode(embeddings[row : row + 1], pictures[index].size, boxes[index])
                for row, index in enumerate(batch[:count])
            ]
        return results

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        return longest_edge_shape(*size, self.preprocessor.size["longest_edge"])

    def _pixels(self, picture: Image.Image) -> torch.Tensor:
        width, height = self._resized(picture.size)
        side = int(self.network.config.vision_config.image_size)
        return functional.pad(self.preprocessor.tensor(picture, width, height), (0, side - width, 0, side - height))

    def _decode(self, embedding: torch.Tensor, size: tuple[int, int], boxes: npt.NDArray[np.float32]) -> Segments:
        width, height = self._resized(size)
        scale = np.asarray([width / size[0], height / size[1]] * 2)
        # In float32 whatever the dtype: bfloat16 cannot tell neighbouring pixels apart beyond 256.
        scaled = torch.from_numpy((boxes * scale).astype(np.float32)).to(self.device)
        logits, ious = [], []
        for start in range(0, len(scaled), BOXES_PER_CALL):
            output = self.network(
                image_embeddings=embedding,
                input_boxes=scaled[None, start : start + BOXES_PER_CALL],
                multimask_output=False,
            )
            logits.append(output.pred_masks[0, :, 0].float())
            ious.append(output.iou_scores[0, :, 0].float())
        side = int(self.network.config.vision_config.image_size)
        return Segments(torch.cat(logits), torch.cat(ious).cpu().numpy(), size, (width, height), side)


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
