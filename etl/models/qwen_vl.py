"""Qwen3-VL, the captioner that is told what to say: an instruction and a picture in, a sentence out.

The rich-context pipeline asks Qwen-VL-Chat, whose files bring code of their own. Qwen3-VL is its successor among the
classes of transformers; all its dense sizes (2B to 32B) are under Apache-2.0, which Qwen2.5-VL's smaller ones are not.
Only the ``Instruct`` ones answer with the sentence at once.

A caption never depends on the pictures that share its batch: the vision tower sees one picture at a time, and every
request is padded on its left to the length that ``max_pixels`` allows, so that all shapes are those of the options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig, LogitsProcessorList, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from etl.errors import ConfigurationError
from etl.models.batches import model_batches, steady_size
from etl.models.blip2 import Caption
from etl.models.folders import read_json
from etl.models.pixels import BICUBIC, Preprocessor
from etl.models.reading import DTYPES, read_network, read_tokenizer

START, END, SEEN, SEEN_END = "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"
ASK = "Describe the picture in one sentence."


class Captioner:
    """Qwen3-VL ready for inference."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        """Read a folder of weights.

        Raises:
            ConfigurationError: The folder is wrong or not whole, or its tokenizer lacks a mark of the conversation.
        """
        self.network = read_network(Qwen3VLForConditionalGeneration, folder, "qwen-vl", device, dtype)
        config = self.network.config
        self.tokenizer = read_tokenizer(folder, config.text_config.vocab_size)
        self.marks = {mark: self._id(mark, folder) for mark in (START, END, SEEN, SEEN_END)}
        self.pad = self.marks[END] if self.tokenizer.pad_token_id is None else int(self.tokenizer.pad_token_id)
        self.preprocessor = _preprocessor(folder, config.vision_config)
        # Nothing that a checkpoint says about searching (sampling, temperature, penalties) may leak into ours.
        self.network.generation_config = GenerationConfig()
        self.device, self.dtype = device, dtype

    @property
    def unit(self) -> int:
        """Side in pixels of the square that one token of the picture stands for."""
        vision = self.network.config.vision_config
        return int(vision.patch_size * vision.spatial_merge_size)

    @torch.inference_mode()
    def captions(
        self,
        pictures: Sequence[Image.Image],
        *,
        batch_size: int,
        prompt: str = ASK,
        beams: int = 1,
        max_new_tokens: int = 128,
        min_pixels: int = 256 * 256,
        max_pixels: int = 512 * 512,
    ) -> list[Caption]:
        """One caption per picture, ``batch_size`` at a time unless that shows.

        Args:
            pictures: RGB pictures of any sizes.
            batch_size: Pictures per model batch.
            prompt: What the network is asked to do.
            beams: Beams of the search; 1 is greedy.
            max_new_tokens: Tokens a caption may have.
            min_pixels: A smaller picture is enlarged to about so many pixels.
            max_pixels: A larger picture is reduced to at most so many pixels.

        Raises:
            ConfigurationError: ``max_pixels`` is less than one token stands for.
        """
        if max_pixels < self.unit**2:
            raise ConfigurationError(f"max_pixels is {max_pixels}; one token of this network is {self.unit**2} pixels")
        asked, search = self._ask(prompt), self._search(beams, max_new_tokens)
        results: list[Caption] = []
        at_once = steady_size(batch_size, self.device, self.dtype)
        for batch, count in model_batches(pictures, at_once, self.dtype):
            shapes = [token_shape(one.width, one.height, self.unit, min_pixels, max_pixels) for one in batch]
            request = self._request(batch, shapes, asked, max_pixels // self.unit**2)
            results += self._generate(request, search)[:count]
        return results

    def _id(self, mark: str, folder: Path) -> int:
        number = self.tokenizer.convert_tokens_to_ids(mark)
        if number is None or number == self.tokenizer.unk_token_id:
            raise ConfigurationError(
                f"the tokenizer in {folder} does not know {mark}",
                remedy="take the tokenizer files that belong to the checkpoint",
            )
        return int(number)

    def _words(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _ask(self, prompt: str) -> tuple[list[int], list[int]]:
        """The token ids of a conversation's turn before and after those of the picture, as it was trained."""
        before = [self.marks[START], *self._words("user\n"), self.marks[SEEN]]
        turn = [self.marks[SEEN_END], *self._words(prompt), self.marks[END], *self._words("\n")]
        return before, [*turn, self.marks[START], *self._words("assistant\n")]

    def _search(self, beams: int, tokens: int) -> GenerationConfig:
        ends = {self.marks[END], self.tokenizer.eos_token_id, self.pad} - {None}
        return GenerationConfig(
            do_sample=False,
            num_beams=beams,
            max_new_tokens=tokens,
            min_new_tokens=1,
            length_penalty=1.0,  # makes a beam's score the mean over its tokens
            eos_token_id=sorted(ends),
            pad_token_id=self.pad,
            return_dict_in_generate=True,
            output_scores=beams > 1,
        )

    def _request(
        self, pictures: list[Image.Image], shapes: list[tuple[int, int]], asked: tuple[list[int], list[int]], most: int
    ) -> dict[str, Any]:
        """What ``generate`` reads; ``shapes`` are columns and rows of tokens, ``most`` how many a picture may have."""
        image = self.network.config.image_token_id
        before, after = asked
        length = len(before) + most + len(after) + 1  # some padding always: without any, other kernels would run
        rows = [[*before, *[image] * (columns * lines), *after] for columns, lines in shapes]
        ids = torch.tensor([[self.pad] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        merge = self.network.config.vision_config.spatial_merge_size
        grids = torch.tensor([[1, lines * merge, columns * merge] for columns, lines in shapes])
        return {
            "input_ids": ids.to(self.device),
            "attention_mask": mask.to(self.device),
            "mm_token_type_ids": ((ids == image) & (mask == 1)).int().to(self.device),
            "image_grid_thw": grids.to(self.device),
            "mm_encoder_outputs": {"image": self._see(pictures, shapes, grids)},
        }

    def _see(
        self, pictures: list[Image.Image], shapes: list[tuple[int, int]], grids: torch.Tensor
    ) -> BaseModelOutputWithDeepstackFeatures:
        """What the vision tower makes of each picture on its own."""
        seen = []
        for picture, (columns, lines), grid in zip(pictures, shapes, grids, strict=True):
            pixels = self.preprocessor.tensor(picture, columns * self.unit, lines * self.unit)
            patches = patches_of(pixels, self.network.config.vision_config).to(self.device, DTYPES[self.dtype])
            seen.append(self.network.get_image_features(patches, grid[None].to(self.device)))
        layers = range(len(seen[0].deepstack_features))
        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=tuple(one.pooler_output[0] for one in seen),
            deepstack_features=[tuple(one.deepstack_features[layer][0] for one in seen) for layer in layers],
        )

    def _generate(self, request: dict[str, Any], search: GenerationConfig) -> list[Caption]:
        best = _BestLogProbabilities()
        output = self.network.generate(
            **request, generation_config=search, logits_processor=LogitsProcessorList([best] * (search.num_beams == 1))
        )
        sequences = output.sequences[:, request["input_ids"].shape[1] :].cpu()
        scores = (
            output.sequences_scores.tolist() if search.num_beams > 1 else best.means(sequences, search.eos_token_id)
        )
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [Caption(" ".join(text.split()), score) for text, score in zip(texts, scores, strict=True)]


class _BestLogProbabilities:
    """A logits processor: notes the log probability of the token that greedy search takes, and keeps no logits."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(torch.log_softmax(scores.float(), dim=-1).amax(dim=-1))
        return scores

    def means(self, sequences: torch.Tensor, ends: list[int]) -> list[float]:
        """The mean over each sequence's tokens [sequences, steps] up to and with its first end token."""
        ended = torch.isin(sequences, torch.tensor(ends)).long().cumsum(dim=1)
        counted = (ended.roll(1, dims=1).index_fill(1, torch.tensor([0]), 0) == 0).double()
        noted = torch.stack(self.steps, dim=1).double().cpu()
        means: list[float] = ((noted * counted).sum(dim=1) / counted.sum(dim=1)).tolist()
        return means


def token_shape(width: int, height: int, unit: int, least: int, most: int) -> tuple[int, int]:
    """Columns and rows of tokens a picture is seen at.

    As near to the picture's own shape as ``least`` to ``most`` pixels allow, rounded as the network's authors do
    (``smart_resize``). Where they refuse a picture, more than 200 times as long as wide, or would pass ``most``, its
    longer side is compressed.

    >>> token_shape(640, 480, 32, 65536, 262144), token_shape(40, 30, 32, 65536, 262144)
    ((18, 13), (10, 7))
    >>> token_shape(5000, 2, 32, 65536, 262144)
    (256, 1)
    """
    columns, rows = round(width / unit), round(height / unit)
    if columns * rows * unit**2 > most:
        scale = math.sqrt(width * height / most)
        columns, rows = (math.floor(side / scale / unit) for side in (width, height))
    elif columns * rows * unit**2 < least:
        scale = math.sqrt(least / (width * height))
        columns, rows = (math.ceil(side * scale / unit) for side in (width, height))
    columns, rows = max(1, columns), max(1, rows)
    limit = most // unit**2
    if columns * rows > limit:
        shorter = min(columns, rows, math.isqrt(limit))
        longer = min(max(columns, rows), limit // shorter)
        return (longer, shorter) if columns > rows else (shorter, longer)
    return columns, rows


def patches_of(pixels: torch.Tensor, vision: Any) -> torch.Tensor:
    """A picture [3, height, width] cut into patches [patches, values], the four of one token together.

    ``vision`` names the sides of a patch and of a token in patches; a still picture fills both frames of a patch.
    """
    side, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    rows, columns = pixels.shape[1] // (side * merge), pixels.shape[2] // (side * merge)
    cut = pixels.reshape(3, rows, merge, side, columns, merge, side).permute(1, 4, 2, 5, 0, 3, 6)
    # [row, column, row in token, column in token, channel, y, x], then each patch once per frame
    repeated = cut.unsqueeze(5).expand(*cut.shape[:5], frames, side, side)
    return repeated.reshape(rows * columns * merge**2, 3 * frames * side**2)


def _preprocessor(folder: Path, vision: Any) -> Preprocessor:
    """How pixels are normalised; raises ConfigurationError when the preprocessor is another network's."""
    content = read_json(folder, "preprocessor_config.json")
    for key, value in (
        ("patch_size", vision.patch_size),
        ("merge_size", vision.spatial_merge_size),
        ("temporal_patch_size", vision.temporal_patch_size),
    ):
        if content.get(key, value) != value:
            raise ConfigurationError(
                f"{folder}/preprocessor_config.json: {key} is {content[key]}, but {value} in config.json",
                remedy="take the preprocessor_config.json that belongs to the checkpoint",
            )
    try:
        mean, std = (tuple(float(value) for value in content[key]) for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{folder}/preprocessor_config.json: image_mean or image_std is missing or wrong: {error}"
        ) from error
    if len(mean) != 3 or len(std) != 3:
        raise ConfigurationError(f"{folder}/preprocessor_config.json: expected three channels, got {mean}, {std}")
    resample = Image.Resampling(content.get("resample", BICUBIC))
    return Preprocessor({}, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), resample)
