"""Qwen3-VL: an instruction and a picture of any shape, the same sentence in any batch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_captioners import noise, qwen_folder, sharded
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from etl.errors import ConfigurationError
from etl.models.blip2 import Caption
from etl.models.qwen_vl import Captioner, patches_of, token_shape

CROPS = [noise(seed, 1 + 29 * seed % 97, 3 + 11 * seed % 53) for seed in range(12)]
ASKED: dict[str, Any] = {"prompt": "w1 w2", "max_new_tokens": 5, "min_pixels": 16 * 16, "max_pixels": 40 * 40}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner(qwen_folder(tmp_path_factory.mktemp("qwen")), "cpu", "float32")


@pytest.fixture(scope="module")
def alone(captioner: Captioner) -> list[Caption]:
    """The caption of each crop in a batch of its own."""
    return captioner.captions(CROPS, batch_size=1, **ASKED)


class TestBatches:
    def test_a_batch_of_64_gives_the_captions_of_64_batches_of_one(self, captioner: Captioner, alone: list[Caption]):
        together = captioner.captions((CROPS * 6)[:64], batch_size=64, **ASKED)
        assert [one.text for one in together] == ([one.text for one in alone] * 6)[:64]
        assert [one.score for one in together] == pytest.approx(([one.score for one in alone] * 6)[:64], abs=1e-5)
        assert len({one.text for one in together}) > 5

    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(chosen=st.lists(st.integers(0, 11), min_size=1, max_size=12), batch_size=st.integers(1, 12))
    def test_captions_do_not_depend_on_order_or_batch_mates(
        self, captioner: Captioner, alone: list[Caption], chosen: list[int], batch_size: int
    ):
        found = captioner.captions([CROPS[index] for index in chosen], batch_size=batch_size, **ASKED)
        assert [one.text for one in found] == [alone[index].text for index in chosen]

    def test_in_bfloat16_a_caption_is_the_same_to_the_last_bit_among_any_batch_mates(self, tmp_path: Path):
        half = Captioner(qwen_folder(tmp_path), "cpu", "bfloat16")
        first = half.captions([CROPS[0], CROPS[1], CROPS[2]], batch_size=3, **ASKED)[0]
        assert half.captions([CROPS[0], CROPS[7], CROPS[4]], batch_size=3, **ASKED)[0] == first
        assert half.captions([CROPS[0]], batch_size=3, **ASKED)[0] == first


class TestAnswers:
    @pytest.mark.parametrize("beams", [1, 3])
    def test_a_caption_is_what_transformers_gives_without_padding(self, captioner: Captioner, beams: int):
        captions = captioner.captions(CROPS[2:6], batch_size=4, beams=beams, **ASKED)
        for crop, caption in zip(CROPS[2:6], captions, strict=True):
            text, score = _plain(captioner, crop, beams)
            assert caption.text == text
            assert caption.score == pytest.approx(score, abs=1e-5)

    def test_the_request_is_the_conversation_it_was_trained_on(self, captioner: Captioner):
        before, after = captioner._ask("w1 w2\nw3")
        turn = (
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>w1 w2\nw3<|im_end|>\n<|im_start|>assistant\n"
        )
        whole = captioner.tokenizer(turn, add_special_tokens=False)["input_ids"]
        assert [*before, captioner.network.config.image_token_id, *after] == whole

    def test_the_instruction_changes_the_caption_and_is_not_in_it(self, captioner: Captioner, alone: list[Caption]):
        other = captioner.captions(CROPS, batch_size=12, **{**ASKED, "prompt": "w30 w31 w32"})
        assert [one.text for one in other] != [one.text for one in alone]
        assert all(len(one.text.split()) <= 5 for one in other)

    def test_pixels_change_the_caption(self, captioner: Captioner, alone: list[Caption]):
        coarse = captioner.captions(CROPS, batch_size=12, **{**ASKED, "min_pixels": 64, "max_pixels": 64})
        assert [one.text for one in coarse] != [one.text for one in alone]

    def test_what_a_checkpoint_says_about_searching_is_not_heard(self, tmp_path: Path, alone: list[Caption]):
        folder = qwen_folder(tmp_path)
        odd = {"do_sample": True, "temperature": 9.0, "max_length": 3, "repetition_penalty": 5.0}
        (folder / "generation_config.json").write_text(json.dumps(odd))
        (found,) = Captioner(folder, "cpu", "float32").captions(CROPS[:1], batch_size=1, **ASKED)
        assert found.text == alone[0].text
        assert found.score == pytest.approx(alone[0].score, abs=1e-5)


class TestShapes:
    sides = st.integers(1, 4000)

    @given(width=sides, height=sides, least=st.integers(32**2, 300_000), most=st.integers(32**2, 300_000))
    def test_a_picture_never_takes_more_pixels_than_allowed(self, width: int, height: int, least: int, most: int):
        columns, rows = token_shape(width, height, 32, min(least, most), max(least, most))
        assert min(columns, rows) >= 1
        assert columns * rows * 32**2 <= max(least, most)

    @given(width=sides, height=sides, least=st.integers(32**2, 100_000), most=st.integers(100_000, 300_000))
    def test_the_rounding_is_that_of_the_networks_authors_where_they_take_the_picture(
        self, width: int, height: int, least: int, most: int
    ):
        if max(width, height) > 200 * min(width, height):
            return
        lines, across = smart_resize(height, width, 32, least, most)
        if lines and across and lines * across <= most:
            assert token_shape(width, height, 32, least, most) == (across // 32, lines // 32)

    def test_pixels_are_those_of_the_authors_processor(self, captioner: Captioner):
        crop = noise(3, 60, 33)
        theirs = _processor()(crop, return_tensors="pt")
        columns, rows = token_shape(60, 33, 8, 16 * 16, 40 * 40)
        pixels = captioner.preprocessor.tensor(crop, columns * 8, rows * 8)
        ours = patches_of(pixels, captioner.network.config.vision_config)
        assert theirs["image_grid_thw"].tolist() == [[1, rows * 2, columns * 2]]
        torch.testing.assert_close(ours, theirs["pixel_values"], atol=1e-6, rtol=0)


class TestFolders:
    def test_weights_in_shards_are_read(self, tmp_path: Path, alone: list[Caption]):
        folder = sharded(qwen_folder(tmp_path))
        (found,) = Captioner(folder, "cpu", "float32").captions(CROPS[:1], batch_size=1, **ASKED)
        assert found.text == alone[0].text
        assert found.score == pytest.approx(alone[0].score, abs=1e-5)

    def test_a_missing_shard_is_named(self, tmp_path: Path):
        folder = sharded(qwen_folder(tmp_path))
        (folder / "model-00003-of-00003.safetensors").unlink()
        with pytest.raises(ConfigurationError, match="model-00003-of-00003"):
            Captioner(folder, "cpu", "float32")

    def test_a_tokenizer_without_the_marks_of_a_conversation_is_refused(self, tmp_path: Path):
        folder = qwen_folder(tmp_path)
        file = folder / "tokenizer.json"
        file.write_text(file.read_text().replace("<|im_start|>", "<|other|>"))
        (folder / "tokenizer_config.json").unlink()
        with pytest.raises(ConfigurationError, match=r"does not know <\|im_start\|>"):
            Captioner(folder, "cpu", "float32")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"patch_size": 14}, "patch_size is 14, but 4"),
            ({"image_mean": [0.5]}, "three channels"),
            ({"image_std": None}, "image_std"),
        ],
    )
    def test_another_networks_preprocessor_is_refused(self, tmp_path: Path, change: dict[str, Any], message: str):
        file = qwen_folder(tmp_path) / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        with pytest.raises(ConfigurationError, match=message):
            Captioner(tmp_path, "cpu", "float32")

    def test_less_than_one_token_of_pixels_is_refused(self, captioner: Captioner):
        with pytest.raises(ConfigurationError, match="one token of this network is 64 pixels"):
            captioner.captions(CROPS[:1], batch_size=1, min_pixels=1, max_pixels=63)


def _processor() -> Any:
    return Qwen2VLImageProcessorPil(
        patch_size=4,
        merge_size=2,
        size={"shortest_edge": 16 * 16, "longest_edge": 40 * 40},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


@torch.inference_mode()
def _plain(captioner: Captioner, crop: Any, beams: int) -> tuple[str, float]:
    """The caption and its mean log probability by transformers' own preprocessing, one picture, no padding."""
    network, seen = captioner.network, _processor()(crop, return_tensors="pt")
    before, after = captioner._ask(ASKED["prompt"])
    image = network.config.image_token_id
    ids = torch.tensor([[*before, *[image] * (len(seen["pixel_values"]) // 4), *after]])
    given_ids = {"mm_token_type_ids": (ids == image).int(), "attention_mask": torch.ones_like(ids)}
    output = network.generate(
        input_ids=ids,
        **given_ids,
        **seen,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=5,
        min_new_tokens=1,
        length_penalty=1.0,
        eos_token_id=[1, 3],
        pad_token_id=1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    tokens = output.sequences[0, ids.shape[1] :]
    text = " ".join(captioner.tokenizer.decode(tokens, skip_special_tokens=True).split())
    indices = output.beam_indices if beams > 1 else None
    steps = network.compute_transition_scores(output.sequences, output.scores, indices, normalize_logits=beams == 1)
    spoken = steps[0][: int((steps[0] < 0).sum())]
    return text, float(spoken.mean())
