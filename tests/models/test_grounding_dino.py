"""GroundingDINO: separators, prompts of any length beside each other, and very long pictures."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from real_models import picture
from transformers import GroundingDinoConfig, SwinConfig
from transformers.image_transforms import get_size_with_aspect_ratio

from etl.errors import ConfigurationError
from etl.models import grounding_dino
from etl.models.grounding_dino import Detector, Raw, tf32_products
from etl.models.pixels import shortest_edge_shape
from etl.models.tokenizers import detector_tokenizer
from etl.shapes.world.words import COLOURS, SHAPES


@pytest.fixture(scope="module")
def detector(weights: dict[str, Path]) -> Detector:
    return Detector(weights["groundingdino"], "cpu", "float32")


def _prompt(detector: Detector, *phrases: str) -> list[int]:
    return [101, *(token for phrase in phrases for token in [*detector.tokens(phrase), 1012]), 102]


def test_a_tokenizer_with_other_separators_is_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["groundingdino"], tmp_path / "detector"))
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('".": 1012', '"\u2026": 1012'))
    with pytest.raises(ConfigurationError, match="GroundingDINO needs"):
        Detector(folder, "cpu", "float32")


def test_the_tokenizer_leaves_no_ascii_text_unknown():
    tokenizer = detector_tokenizer(["dog"])
    ids = tokenizer("dog, mp3-player (3d) rubik's tv/radio", add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer("DOG", add_special_tokens=False)["input_ids"]) == "dog"


PHRASES = [["circle"], [f"{colour} star" for colour in COLOURS], ["traffic light", "ring"]]


@pytest.fixture(scope="module")
def alone(detector: Detector) -> list[Raw]:
    """What each picture and prompt gives alone."""
    return [detector.detect([picture(index)], [_prompt(detector, *many)], 1)[0] for index, many in enumerate(PHRASES)]


@settings(deadline=None, max_examples=5)
@given(order=st.lists(st.integers(0, 2), max_size=5), batch_size=st.integers(1, 5))
def test_answers_are_the_same_to_the_last_bit_in_any_batch_and_order(
    detector: Detector, alone: list[Raw], order: list[int], batch_size: int
):
    prompts = [_prompt(detector, *PHRASES[index]) for index in order]
    together = detector.detect([picture(index) for index in order], prompts, batch_size)
    for index, prompt, found in zip(order, prompts, together, strict=True):
        assert found.probabilities.shape == (40, len(prompt))
        np.testing.assert_array_equal(found.boxes, alone[index].boxes)
        np.testing.assert_array_equal(found.probabilities, alone[index].probabilities)


def test_padding_of_the_text_says_nothing(detector: Detector, monkeypatch: pytest.MonkeyPatch):
    prompt = _prompt(detector, "circle", "heart")
    (short,) = detector.detect([picture(0)], [prompt], 1)
    monkeypatch.setattr(grounding_dino, "TEXT_BUCKET", detector.max_text_len)
    (padded,) = detector.detect([picture(0)], [prompt], 1)
    np.testing.assert_allclose(padded.boxes, short.boxes, atol=2e-6)
    np.testing.assert_allclose(padded.probabilities, short.probabilities, atol=5e-6)


def test_asked_for_bfloat16_it_stays_float32_with_batches_of_one_size(
    weights: dict[str, Path], detector: Detector, monkeypatch: pytest.MonkeyPatch
):
    reduced = Detector(weights["groundingdino"], "cpu", "bfloat16")
    assert {value.dtype for value in reduced.network.parameters()} == {torch.float32}
    sizes, forward = [], reduced._forward

    def spy(pictures: list[Image.Image], *rest: Any) -> list[Raw]:
        sizes.append(len(pictures))
        return forward(pictures, *rest)

    monkeypatch.setattr(reduced, "_forward", spy)
    prompt = _prompt(detector, "circle")
    raw = reduced.detect([picture(seed) for seed in range(3)], [prompt] * 3, 2)
    assert sizes == [2, 2]
    (alone,) = detector.detect([picture(2)], [prompt], 1)
    np.testing.assert_allclose(raw[2].boxes, alone.boxes, atol=2e-6)


def test_tf32_is_allowed_only_meanwhile():
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32_products(True):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_boxes_and_probabilities_differ_between_queries_pictures_and_tokens(detector: Detector):
    prompt = _prompt(detector, *SHAPES)
    first, second = detector.detect([picture(1), picture(2)], [prompt, prompt], batch_size=2)
    assert first.boxes.std(axis=0).min() > 0.01
    assert first.probabilities.std() > 0.05
    assert np.abs(first.boxes - second.boxes).max() > 0.01


def test_a_picture_with_fewer_cells_than_queries_is_known_beforehand(detector: Detector):
    detector.network.config.num_queries, queries = 70, detector.network.config.num_queries
    try:
        assert detector.takes(200, 150)
        assert not detector.takes(16, 3000)
    finally:
        detector.network.config.num_queries = queries
    detector.detect([picture(0, 16, 3000)], [_prompt(detector, "star")], batch_size=1)


def upstream_shape(width: int, height: int, size: int = 800, limit: int = 1333) -> tuple[int, int]:
    """Upstream's ``get_size_with_aspect_ratio``: the shorter side is rounded, the longer one follows from it."""
    short, long = float(min(width, height)), float(max(width, height))
    if long / short * size > limit:
        size = round(limit * short / long)
    return (size, int(size * height / width)) if width < height else (int(size * width / height), size)


@settings(max_examples=300)
@given(width=st.integers(16, 6000), height=st.integers(16, 6000))
def test_pictures_are_resized_to_upstreams_shape(width: int, height: int):
    assume(min(width, height) * 1333 / max(width, height) >= 1)  # upstream fails below
    assert shortest_edge_shape(width, height, 800, 1333) == upstream_shape(width, height)


def test_transformers_would_resize_some_pictures_to_another_shape():
    # The reason why its image processor is not used.
    assert get_size_with_aspect_ratio((181, 1738), 800, 1333)[::-1] == (1332, 139)
    assert shortest_edge_shape(1738, 181, 800, 1333) == (1334, 139)


@pytest.mark.parametrize("backbone", [{}, {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}])
@pytest.mark.parametrize(("size", "taken"), [((640, 480), True), ((1333, 100), True), ((4000, 30), False)])
def test_at_real_size_only_very_long_pictures_are_not_taken(
    backbone: dict[str, Any], size: tuple[int, int], taken: bool
):
    detector = object.__new__(Detector)
    swin = SwinConfig(image_size=384, window_size=12, out_indices=[2, 3, 4], **backbone)
    config = GroundingDinoConfig(backbone_config=swin)
    detector.network = SimpleNamespace(config=config)
    detector.preprocessor = SimpleNamespace(size={"shortest_edge": 800, "longest_edge": 1333})
    assert config.num_queries == 900
    assert detector.max_text_len == 256
    assert detector.takes(*size) is taken
