"""BLIP-2, the captioner: a sentence for a picture or a crop, by beam search, with OPT or Flan-T5 as its language model.

The search is that of LAVIS, the authors' own code (``Blip2OPT.generate`` and ``Blip2T5.generate``): the language model
reads the picture's query tokens and the prompt, and what it generates is the caption. OPT reads ``queries </s> prompt``
and goes on from it; Flan-T5's encoder reads ``queries prompt </s>`` and its decoder answers. Without a prompt that
leaves ``</s>`` alone in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import Blip2ForConditionalGeneration, DynamicCache, GenerationConfig

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.folders import check_folder
from etl.models.pixels import Preprocessor
from etl.models.reading import DTYPES, read_network, read_tokenizer, stored_keys

# Of ViT-g: its blocks' epsilon, and that of the norm behind them (``ln_vision`` of LAVIS, which keeps torch's own).
# A configuration of transformers has one number for both, early ones 1e-5, later ones 1e-6.
EVA_WIDTH, EVA_EPS, AFTER_EVA_EPS = 1408, 1e-6, 1e-5
LM_HEAD = "language_model.lm_head.weight"


@dataclass(frozen=True)
class Caption:
    """A text and its mean log probability per generated token (<= 0), the end token included.

    The score is None from BLIP-2 without beams.
    """

    text: str
    score: float | None


class Captioner:
    """BLIP-2 with OPT or Flan-T5, ready for inference."""

    def __init__(
        self, folder: Path, device: str, dtype: str, *, attention: str = "sdpa", compiled: bool = False
    ) -> None:
        """Read a folder of weights.

        Args:
            folder: The folder.
            device: ``cpu`` or ``cuda:N``.
            dtype: ``float32`` or ``bfloat16``.
            attention: ``sdpa`` or ``eager``.
            compiled: Whether what sees the picture goes through ``torch.compile`` when it is first used; the language
                model does not, because each of its steps is of another length.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or Flan-T5 is asked for in float16.
        """
        content = check_folder(folder, "blip2")
        if _text_of(content).get("model_type") == "t5":
            _check_t5(folder, _text_of(content), dtype)
        self.preprocessor = Preprocessor.read(folder, "height", "width")
        self.network = read_network(Blip2ForConditionalGeneration, folder, "blip2", device, dtype, attention)
        self.text_config = self.network.config.text_config
        self.tokenizer = read_tokenizer(folder, self.text_config.vocab_size)
        _correct_vision(self.network)
        # Nothing that a checkpoint says about searching (lengths, sampling, penalties) may leak into ours.
        self.network.language_model.generation_config = GenerationConfig()
        if compiled:
            self.network.vision_model.compile()
            self.network.qformer.compile()
        self.device, self.dtype = device, dtype

    @property
    def decoder_only(self) -> bool:
        """Whether the language model goes on from the prompt (OPT); else it answers to it (Flan-T5)."""
        return bool(self.network.config.use_decoder_only_language_model)

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
        """One caption per picture, ``batch_size`` at a time unless that shows; the prompt is not part of it."""
        search = self._search(beams, max_new_tokens)
        results: list[Caption] = []
        at_once = steady_size(batch_size, self.device, self.dtype)
        for batch, count in model_batches(pictures, at_once, self.dtype):
            results += self._generate(batch, self._prompt(prompt), search)[:count]
        return results

    def _prompt(self, text: str) -> list[int]:
        words = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        config = self.text_config
        return [config.bos_token_id, *words] if self.decoder_only else [*words, config.eos_token_id]

    def _search(self, beams: int, tokens: int) -> GenerationConfig:
        config = self.text_config
        start = getattr(config, "decoder_start_token_id", None)
        return GenerationConfig(
            do_sample=False,
            num_beams=beams,
            max_new_tokens=tokens,
            # LAVIS's min_length=1 counts the token that a decoder starts with: it keeps OPT from an empty caption only.
            min_new_tokens=1 if self.decoder_only else None,
            length_penalty=1.0,  # makes a beam's score the mean over its tokens
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            decoder_start_token_id=config.pad_token_id if start is None else start,
            return_dict_in_generate=True,
            output_scores=beams > 1,
        )

    def _generate(self, pictures: list[Image.Image], prompt: list[int], search: GenerationConfig) -> list[Caption]:
        pixels = self.preprocessor.square(pictures, self.device).to(DTYPES[self.dtype])
        seen = self.network.get_image_features(pixel_values=pixels).pooler_output
        words = self.network.get_input_embeddings()(torch.tensor([prompt] * len(pictures), device=self.device))
        read = torch.cat([seen.to(words.dtype), words], dim=1)
        # With embeddings in place of ids the output holds new tokens only; no id has to stand for the picture.
        output = self.network.language_model.generate(
            inputs_embeds=read,
            attention_mask=_all_of(read),
            past_key_values=self._read_once(read[:, :-1], search.num_beams),
            generation_config=search,
        )
        texts = self.tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        scores = output.sequences_scores.tolist() if search.num_beams > 1 else [None] * len(texts)
        return [Caption(" ".join(text.split()), score) for text, score in zip(texts, scores, strict=True)]

    def _read_once(self, read: torch.Tensor, beams: int) -> DynamicCache | None:
        """Keys and values of what all beams of a picture have read, [pictures, tokens, width]; None for Flan-T5.

        The search would let the language model read it once per beam. Flan-T5's encoder is run once as it is.
        """
        if not self.decoder_only or beams == 1:
            return None
        cache = DynamicCache(config=self.text_config)
        self.network.language_model.model(
            inputs_embeds=read, attention_mask=_all_of(read), past_key_values=cache, use_cache=True
        )
        cache.batch_repeat_interleave(beams)
        return cache


def _all_of(read: torch.Tensor) -> torch.Tensor:
    """The attention mask of inputs without padding: ones [pictures, tokens]."""
    return torch.ones(read.shape[:2], dtype=torch.long, device=read.device)


def _text_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    text = content.get("text_config")
    return text if isinstance(text, dict) else {}


def _check_t5(folder: Path, text: Mapping[str, Any], dtype: str) -> None:
    """Refuse what would make Flan-T5 answer nonsense without an error."""
    if dtype == "float16":
        raise ConfigurationError(
            f"{folder} holds BLIP-2 with Flan-T5, whose activations pass what float16 can hold",
            remedy="set dtype to bfloat16 or float32",
        )
    untied = text.get("tie_word_embeddings") is False or text.get("scale_decoder_outputs") is False
    if untied and LM_HEAD not in stored_keys(folder):
        # transformers would take the input embeddings in its place.
        raise ConfigurationError(
            f"the weights in {folder} lack 1 keys: {LM_HEAD}",
            remedy="give the whole checkpoint: Flan-T5 has an output layer of its own",
        )


def _correct_vision(network: Any) -> None:
    """Give the vision tower of LAVIS the two epsilons it was trained with, whatever its configuration says."""
    if network.config.vision_config.hidden_size == EVA_WIDTH:
        for module in network.vision_model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = EVA_EPS
        network.vision_model.post_layernorm.eps = AFTER_EVA_EPS
