"""Tag2Text, the captioner: it tags the picture itself, and writes its sentence from picture and tags.

Source: ``generate`` of ``ram/models/tag2text.py`` in xinyu1205/recognize-anything. Upstream's beams are right for one
picture at a time only; here every picture of a batch has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BertTokenizer, BlipTextConfig, BlipTextLMHeadModel, BlipTextModel

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.blip2 import Caption
from etl.models.folders import check_keys, read_json
from etl.models.reading import DTYPES, read_tokenizer
from etl.models.swin_tagger import read_weights
from etl.models.tag2text import DECODER, ENCODER, Tagger

PROMPT = "a picture of"
TAG_TOKENS = 40  # of all tags together; what is beyond is cut
MIN_LENGTH = 10  # tokens of a sentence, those of the prompt and the start token counted
# Upstream's med_config.json; a folder's config.json may say otherwise under "text".
TEXT: dict[str, Any] = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
}


class Captioner:
    """Tag2Text's tagger, its tag encoder and its text decoder, ready for inference."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or its tokenizer does not fit the network.
        """
        self.tagger = Tagger(folder, device, dtype)
        sizes = read_json(folder, "config.json").get("text", TEXT)
        vision_width = int(self.tagger.swin.config.hidden_size)
        try:
            encoder = BlipTextConfig(**sizes, encoder_hidden_size=vision_width)
            decoder = BlipTextConfig(**sizes, encoder_hidden_size=encoder.hidden_size)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{folder}/config.json: 'text' does not describe a BERT: {error}") from error
        self.tokenizer = read_tokenizer(folder, decoder.vocab_size, BertTokenizer)
        self.start, self.tags_start = special_ids(folder, self.tokenizer, decoder.vocab_size)
        pooled = {"add_pooling_layer": False}
        self.tag_encoder = _read(folder, BlipTextModel, encoder, ENCODER, pooled).to(device, DTYPES[dtype]).eval()
        self.text_decoder = _read(folder, BlipTextLMHeadModel, decoder, DECODER, {}).to(device, DTYPES[dtype]).eval()
        self.tag_tokens = min(TAG_TOKENS, int(encoder.max_position_embeddings))
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
        """One caption per picture, ``batch_size`` at a time unless that shows.

        Args:
            pictures: RGB pictures of any sizes.
            batch_size: Pictures that go through the networks at once.
            prompt: What a caption goes on from, and which is not part of it; empty means upstream's own.
            beams: Beams of the search; upstream takes 3.
            max_new_tokens: Tokens a caption may have; upstream takes 46.
        """
        start = self._prompt(prompt or PROMPT)
        results: list[Caption] = []
        size = steady_size(batch_size, self.device, self.dtype)
        for batch, count in model_batches(pictures, size, self.dtype):
            results += self._generate(self._memory(batch), start, beams, max_new_tokens)[:count]
        return results

    def _memory(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """What the decoder reads: the tags' tokens after they have attended to the picture, padding included."""
        tokens = self.tagger.see(pictures)
        texts = [" | ".join(self.tagger.names(scores)) for scores in self.tagger.scores_of(tokens)]
        given = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.tag_tokens, return_tensors="pt"
        )
        ids = given["input_ids"]
        ids[:, 0] = self.tags_start
        memory: torch.Tensor = self.tag_encoder(
            input_ids=ids.to(self.device),
            attention_mask=given["attention_mask"].to(self.device),
            encoder_hidden_states=tokens,
        ).last_hidden_state
        return memory

    def _prompt(self, text: str) -> list[int]:
        return [self.start, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _generate(self, memory: torch.Tensor, start: list[int], beams: int, tokens: int) -> list[Caption]:
        ids = torch.tensor([start] * len(memory), device=self.device)
        output = self.text_decoder.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=memory,  # one per picture: generate repeats it for the beams
            do_sample=False,
            num_beams=beams,
            max_new_tokens=tokens,
            min_length=min(MIN_LENGTH, len(start) + tokens),
            length_penalty=1.0,
            eos_token_id=int(self.tokenizer.sep_token_id),
            pad_token_id=int(self.tokenizer.pad_token_id),
            return_dict_in_generate=True,
            output_scores=beams > 1,
        )
        texts = self.tokenizer.batch_decode(
            output.sequences[:, len(start) :],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=True,  # "the dog's", not "the dog ' s", as transformers did for upstream
        )
        scores = output.sequences_scores.tolist() if beams > 1 else [None] * len(texts)
        return [Caption(" ".join(text.split()), score) for text, score in zip(texts, scores, strict=True)]


def special_ids(folder: Path, tokenizer: Any, vocabulary: int) -> tuple[int, int]:
    """Ids of [DEC], which begins a sentence, and [ENC], which begins tags: upstream adds both after BERT's vocabulary.

    Raises:
        ConfigurationError: The tokenizer is not the one that the network was trained with, as far as sizes tell.
    """
    own = [token for token in ("[DEC]", "[ENC]") if token in tokenizer.get_vocab()]
    plain = len(tokenizer) - len(own)
    ids = plain, plain + 1
    if plain + 2 != vocabulary or any(tokenizer.convert_tokens_to_ids(token) not in ids for token in own):
        raise ConfigurationError(
            f"the tokenizer in {folder} has {plain} tokens, its network knows {vocabulary}: two more were expected, "
            "for [DEC] and [ENC]",
            remedy="take the tokenizer files of bert-base-uncased",
        )
    return ids


def _read(folder: Path, cls: Any, config: BlipTextConfig, prefix: str, more: dict[str, Any]) -> Any:
    weights = {key.removeprefix(prefix): value for key, value in read_weights(folder, only=(prefix,)).items()}
    if not weights:
        raise ConfigurationError(
            f"{folder} holds Tag2Text's tagger only: no key begins with {prefix!r}",
            remedy="convert the whole checkpoint to have captions, or take another captioner",
        )
    network, info = cls.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, ignore_mismatched_sizes=True, **more
    )
    check_keys(folder, info)
    return network
