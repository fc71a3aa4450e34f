"""Upstream's packages and our engines, the same random weights in upstream's file, the same pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etl.reference.parity import Parity, parity
from etl.reference.questions import Question, Weights
from etl.reference.small import SIDES, SIZES, write_text_folder

pytestmark = pytest.mark.reference
RELATIVE = 1e-5
PICTURES = [(60, 45), (45, 70), (64, 64)]


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (high, wide, 3), dtype=np.uint8)) for wide, high in PICTURES]


def agrees(found: Parity) -> None:
    for one in found.differences:
        print(f"{found.family} {one.name}: largest {one.largest:.2e}, relative {one.relative:.2e}")
    assert max(one.relative for one in found.differences) < RELATIVE


@pytest.mark.parametrize("family", ["sam", "sam-hq"])
def test_the_segmenters_masks_and_estimates_are_those_of_upstream(family: str, tmp_path: Path):
    boxes = [[[3, 4, 30, 40], [10.5, 10, 50, 33.25]], [[1, 2, 40, 60]], [[0, 0, 64, 64], [20, 30, 22, 31]]]
    question = Question(pictures(), [np.asarray(own, dtype=np.float32) for own in boxes])
    found = parity(family, Weights(tmp_path / "sam.pth", sizes=SIZES[family]), question, tmp_path, {})
    agrees(found)
    assert {one.name for one in found.differences} == {"logits", "ious"}
    assert found.mask_pixels == sum(len(own) * w * h for own, (w, h) in zip(boxes, PICTURES, strict=True))
    assert found.mask_margin < RELATIVE  # a pixel may differ only where its logit is 0 but for rounding
    assert found.mask_pixels_apart <= 2


def test_the_grounders_boxes_and_token_probabilities_are_those_of_upstream(tmp_path: Path):
    text = tmp_path / "text"
    text.mkdir()
    beside = write_text_folder(text)
    weights = Weights(tmp_path / "dino.pth", text, SIZES["groundingdino"])
    prompts = ["red circle . a blue square .", "star .", "circle . square . star ."]
    found = parity("groundingdino", weights, Question(pictures(), (), prompts, SIDES), tmp_path, beside)
    agrees(found)
    assert {one.name for one in found.differences} == {"boxes", "probabilities"}
    assert found.labels
    assert not found.labels_apart
