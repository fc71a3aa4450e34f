"""CLIP's text tower, the encoder: one vector per text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.reading import read_network, read_tokenizer, stored_keys

PROJECTION = "text_projection.weight"


class TextEncoder:
    """CLIP's text tower ready for inference."""

    network_class: ClassVar[Any] = CLIPTextModel

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or the network would pool the wrong token.
        """
        self.network = self._read(folder, device, dtype)
        self.tokenizer = read_tokenizer(folder, self.network.config.vocab_size)
        eos = self.network.config.eos_token_id
        # With id 2 transformers pools the largest id instead, which is right for OpenAI's own vocabulary only.
        pooled = len(self.tokenizer) - 1 if eos == 2 else eos
        if self.tokenizer.eos_token_id != pooled:
            raise ConfigurationError(
                f"{folder}: the network pools token {pooled}, but texts end with {self.tokenizer.eos_token_id}",
                remedy="set eos_token_id of config.json to the tokenizer's",
            )
        self.device, self.dtype = device, dtype

    def _read(self, folder: Path, device: str, dtype: str) -> Any:
        """The network; from a folder that holds the projection too, for own labels, the tower without it."""
        if self.network_class is CLIPTextModel and PROJECTION in stored_keys(folder):
            return read_network(CLIPTextModelWithProjection, folder, "clip-text", device, dtype).text_model
        return read_network(self.network_class, folder, "clip-text", device, dtype)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.network.config.hidden_size)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
        """The hidden state of the end token before projection, not normalised: [texts, width].

        A text longer than the network takes is cut, its end token kept.
        """
        rows = [np.empty((0, self.width), np.float32)]
        at_once = steady_size(batch_size, self.device, self.dtype)
        for batch, count in model_batches(texts, at_once, self.dtype):
            tokens = self.tokenizer(
                batch,
                padding="max_length",  # never to the longest of the batch
                truncation=True,
                max_length=int(self.network.config.max_position_embeddings),
                split_special_tokens=True,  # an end token written out in a text is not its end
                return_tensors="pt",
            )
            output = self.network(
                input_ids=tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
            )
            rows.append(self._vectors_of(output)[:count].float().cpu().numpy())
        return np.concatenate(rows)

    def _vectors_of(self, output: Any) -> Any:
        return output.pooler_output
