"""GroundingDINO, the detector: from pictures and token ids to boxes with one probability per token.

Its weights stay float32 whatever dtype is asked for: it keeps the best of thousands of proposals, a choice that any
rounding can tip, so that bfloat16 now and then swaps boxes. Asked for bfloat16 it only lets a GPU multiply matrices in
TF32. Text padding is neutral in transformers' class; picture padding is not, so a batch holds one resized shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import GroundingDinoForObjectDetection

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.pixels import Preprocessor, shortest_edge_shape
from etl.models.reading import read_network, read_tokenizer
from etl.models.tokens import SPECIAL_IDS

TEXT_BUCKET = 32  # prompts are padded to a multiple of this: to a length that depends on no other prompt


@dataclass(frozen=True)
class Raw:
    """What the network says of one picture and prompt.

    Attributes:
        boxes: float32 [queries, 4], centre x, centre y, width, height, as shares of the picture.
        probabilities: float32 [queries, tokens of the prompt].
    """

    boxes: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]


class Detector:
    """GroundingDINO ready for inference."""

    def __init__(
        self, folder: Path, device: str, dtype: str, *, attention: str = "eager", compiled: bool = False
    ) -> None:
        """Read a folder of weights.

        Args:
            folder: The folder.
            device: ``cpu`` or ``cuda:N``.
            dtype: ``float32``, or ``bfloat16`` for float32 with TF32 products where the device has them.
            attention: Without effect: transformers' class has eager attention only.
            compiled: Whether the network goes through ``torch.compile`` when it is first used.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or its tokenizer does not fit the network.
        """
        self.preprocessor = Preprocessor.read(folder, "shortest_edge", "longest_edge")
        self.network = read_network(GroundingDinoForObjectDetection, folder, "groundingdino", device, "float32")
        self.tokenizer = read_tokenizer(folder, self.network.config.text_config.vocab_size)
        check_special_ids(folder, self.tokenizer)
        if compiled:
            torch._dynamo.config.capture_scalar_outputs = True  # else its checks of shapes break the graph 15 times
            self.network.compile()
        self.device, self.dtype = device, dtype

    @property
    def max_text_len(self) -> int:
        """Tokens a prompt may have, [CLS] and [SEP] included."""
        return int(min(self.network.config.max_text_len, self.network.config.text_config.max_position_embeddings))

    def tokens(self, text: str) -> list[int]:
        """Token ids of a piece of text, without [CLS] and [SEP]; those written out in it are text like any other."""
        given = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [int(token) for token in given["input_ids"]]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(list(tokens)))

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Width and height the network sees a picture at."""
        size = self.preprocessor.size
        return shortest_edge_shape(width, height, size["shortest_edge"], size["longest_edge"])

    def takes(self, width: int, height: int) -> bool:
        """Whether a picture gives as many feature cells as the network has queries; very long ones do not."""
        config = self.network.config
        across, down = self.shape(width, height)
        backbone = config.backbone_config
        strides = [backbone.patch_size * 2 ** (index - 1) for index in backbone.out_indices]
        strides += [strides[-1] * 2**n for n in range(1, config.num_feature_levels - len(strides) + 1)]
        return bool(sum(-(-across // s) * -(-down // s) for s in strides) >= config.num_queries)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[Image.Image], prompts: Sequence[Sequence[int]], batch_size: int) -> list[Raw]:
        """Boxes and token probabilities, one result per picture and its prompt.

        Args:
            pictures: Pictures that have the same ``shape``: padding one to another's size would change its boxes.
            prompts: Token ids per picture, [CLS] and [SEP] included, at most ``max_text_len``.
            batch_size: Pictures that go through the network at once unless that shows.
        """
        at_once = steady_size(batch_size, self.device, self.dtype)
        results: dict[int, Raw] = {}
        buckets: dict[int, list[int]] = {}
        for index, prompt in enumerate(prompts):
            length = min(self.max_text_len, -(-len(prompt) // TEXT_BUCKET) * TEXT_BUCKET)
            buckets.setdefault(length, []).append(index)
        for length, members in sorted(buckets.items()):
            for batch, count in model_batches(members, at_once, self.dtype):
                raw = self._forward([pictures[i] for i in batch], [prompts[i] for i in batch], length)
                results.update(zip(batch[:count], raw, strict=False))
        return [results[index] for index in range(len(prompts))]

    def _forward(self, pictures: list[Image.Image], prompts: list[Sequence[int]], length: int) -> list[Raw]:
        width, height = self.shape(*pictures[0].size)
        pixels = self.preprocessor.alike(pictures, width, height, self.device)
        ids = torch.full((len(prompts), length), int(self.tokenizer.pad_token_id))
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(list(prompt))
            mask[row, : len(prompt)] = 1
        with tf32_products(self.dtype != "float32"):
            output = self.network(
                pixel_values=pixels,
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
            )
        boxes = output.pred_boxes.float().cpu().numpy()
        probabilities = torch.sigmoid(output.logits.float()).cpu().numpy()
        return [Raw(boxes[row], probabilities[row, :, : len(prompt)]) for row, prompt in enumerate(prompts)]


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Let a GPU multiply float32 matrices in TF32 meanwhile: ten bits of mantissa, several times the speed."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def check_special_ids(folder: Path, tokenizer: object) -> None:
    """Refuse a tokenizer whose separators have other ids than the network expects; raises ConfigurationError."""
    convert = tokenizer.convert_tokens_to_ids  # type: ignore[attr-defined]
    found = {token: convert(token) for token in SPECIAL_IDS}
    if found != SPECIAL_IDS:
        raise ConfigurationError(
            f"the tokenizer in {folder} has {found}, GroundingDINO needs {SPECIAL_IDS}",
            remedy="take the tokenizer files that belong to the checkpoint (bert-base-uncased)",
        )
