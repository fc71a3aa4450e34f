"""GroundingDINO: separators, prompts of any length beside each other, and very long pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from real_models import picture

from etl.errors import ConfigurationError
from etl.models.grounding_dino import Detector
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


def test_answers_do_not_depend_on_batch_mates(detector: Detector):
    pictures = [picture(seed) for seed in range(3)]
    many = [f"{colour} star" for colour in COLOURS]
    prompts = [_prompt(detector, "circle"), _prompt(detector, *many), _prompt(detector, "traffic light", "ring")]
    together = detector.detect(pictures, prompts, batch_size=3)
    for index, prompt in enumerate(prompts):
        (alone,) = detector.detect([pictures[index]], [prompt], batch_size=1)
        assert together[index].probabilities.shape == (40, len(prompt))
        np.testing.assert_allclose(together[index].boxes, alone.boxes, atol=1e-5)
        np.testing.assert_allclose(together[index].probabilities, alone.probabilities, atol=1e-5)


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
