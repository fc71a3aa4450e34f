"""Upstream's packages and our engines, the same random weights in upstream's file, the same pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etl.reference.compare import Parity
from etl.reference.parity import parity
from etl.reference.questions import Question
from etl.reference.small import write_random

pytestmark = pytest.mark.reference
RELATIVE = 1e-5
PICTURES = [(60, 45), (45, 70), (64, 64)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "upstream").mkdir()
    return tmp_path / "upstream"


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (high, wide, 3), dtype=np.uint8)) for wide, high in PICTURES]


def agrees(found: Parity) -> None:
    for one in found.differences:
        print(f"{found.family} {one.name}: largest {one.largest:.2e}, relative {one.relative:.2e}")
    assert max(one.relative for one in found.differences) < RELATIVE
    assert found.beyond(RELATIVE) == []


@pytest.mark.parametrize("family", ["sam", "sam-hq"])
def test_the_segmenters_masks_and_estimates_are_those_of_upstream(family: str, folder: Path, tmp_path: Path):
    boxes = [[[3, 4, 30, 40], [10.5, 10, 50, 33.25]], [[1, 2, 40, 60]], [[0, 0, 64, 64], [20, 30, 22, 31]]]
    question = Question(pictures(), [np.asarray(own, dtype=np.float32) for own in boxes])
    write_random(family, folder)
    found = parity(family, folder, question, tmp_path)
    agrees(found)
    assert {one.name for one in found.differences} == {"logits", "ious"}
    assert found.mask_pixels == sum(len(own) * w * h for own, (w, h) in zip(boxes, PICTURES, strict=True))
    assert found.mask_pixels_apart <= 2


def test_the_grounders_boxes_and_token_probabilities_are_those_of_upstream(folder: Path, tmp_path: Path):
    prompts = ["red circle . a blue square .", "star .", "circle . square . star ."]
    write_random("groundingdino", folder)
    found = parity("groundingdino", folder, Question(pictures(), prompts=prompts), tmp_path)
    agrees(found)
    assert {one.name for one in found.differences} == {"proposals", "boxes", "probabilities"}
    assert found.proposals_apart == 0
    assert found.labels
    assert not found.labels_apart


@pytest.mark.usefixtures("ram")
@pytest.mark.parametrize("family", ["ram", "ram-plus", "tag2text"])
def test_the_taggers_scores_and_tags_are_those_of_upstream(family: str, folder: Path, tmp_path: Path):
    write_random(family, folder)
    found = parity(family, folder, Question(pictures(), captions=family == "tag2text"), tmp_path)
    agrees(found)
    assert [one.name for one in found.differences] == ["scores"]
    assert found.labels
    assert not found.labels_apart
    assert found.captions == (len(PICTURES) if family == "tag2text" else None)
    assert found.captions_apart == ()
