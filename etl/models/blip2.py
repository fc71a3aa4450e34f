"""BLIP-2, the captioner: a sentence for a picture or a crop, by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration

from etl.errors import ConfigurationError
from etl.models.batches import model_batches
from etl.models.pixels import Preprocessor
from etl.models.reading import DTYPES, read_network, read_tokenizer


@dataclass(frozen=True)
class Caption:
    """A text and its mean log probability per generated token (<= 0), None without beams."""

    text: str
    score: float | None


class Captioner:
    """BLIP-2 with a decoder-only language model, ready for inference."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or its configuration names no image token.
        """
        self.preprocessor = Preprocessor.read(folder, "height", "width")
        self.network = read_network(Blip2ForConditionalGeneration, folder, "blip2", device, dtype)
        self.tokenizer = read_tokenizer(folder, self.network.config.text_config.vocab_size)
        if self.network.config.image_token_index is None or not self.network.config.use_decoder_only_language_model:
            raise ConfigurationError(
                f"{folder}/config.json: image_token_index and a decoder-only language model are needed",
                remedy="use a BLIP-2 checkpoint with OPT, saved by transformers 4.46 or later",
            )
        self.device, self.dtype = device, dtype

    @torch.inference_mode()
    def captions(
        self,
        pictures: Sequence[Image.Image],
        *,
        batch_size: int,
        prompt: str = "",
        beams: int = 5,
        max_new_tokens: int = 30,
    ) -> list[Caption]:
        """One caption per picture, ``batch_size`` at a time; the prompt is not part of it."""
        results: list[Caption] = []
        for batch, count in model_batches(pictures, batch_size, self.dtype):
            results += self._generate(batch, self._prompt(prompt), beams, max_new_tokens)[:count]
        return results

    def _prompt(self, text: str) -> list[int]:
        config = self.network.config
        words = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return [config.image_token_index] * config.num_query_tokens + [config.text_config.bos_token_id, *words]

    def _generate(self, pictures: list[Image.Image], prompt: list[int], beams: int, tokens: int) -> list[Caption]:
        ids = torch.tensor([prompt] * len(pictures), device=self.device)
        config = self.network.config.text_config
        output = self.network.generate(
            pixel_values=self.preprocessor.square(pictures).to(self.device, DTYPES[self.dtype]),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=beams,
            max_new_tokens=tokens,
            min_new_tokens=1,
            length_penalty=1.0,  # makes a beam's score the mean over its tokens
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            return_dict_in_generate=True,
            output_scores=beams > 1,
        )
        texts = self.tokenizer.batch_decode(output.sequences[:, len(prompt) :], skip_special_tokens=True)
        scores = output.sequences_scores.tolist() if beams > 1 else [None] * len(texts)
        return [Caption(" ".join(text.split()), score) for text, score in zip(texts, scores, strict=True)]
