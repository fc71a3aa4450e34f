"""Reference engines behind our contracts, with a stand-in for upstream's packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in_upstream
from PIL import Image

from etl.errors import ConfigurationError, UnknownNameError
from etl.reference.engines import open_reference
from etl.reference.folders import NEEDED

FILES = {family: ["a.pth", *(names[0] for names in needed)] for family, needed in NEEDED.items()}
PICTURES = [Image.new("RGB", (40, 30), "white"), Image.new("L", (30, 50))]
Open = Callable[[str, str], Any]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    stand_in_upstream.install(monkeypatch, tmp_path)
    made: list[Any] = []

    def _open(family: str, task: str) -> Any:
        folder = tmp_path / family
        folder.mkdir()
        for name in FILES[family]:
            (folder / name).write_text("x")
        made.append(open_reference(family, task, folder, "cpu", threads=1))
        return made[-1]

    yield _open
    for network in made:
        network.close()


def test_a_segmenter_gives_small_logits_that_become_masks_of_the_pictures_size(opened: Open):
    segmenter = opened("sam", "segmenter")
    boxes = [np.asarray([[1, 2, 20, 20], [3, 4, 30, 30]], np.float32), np.zeros((0, 4), np.float32)]
    some, none = segmenter.segment(PICTURES, boxes, 8)
    masks = list(some.masks())
    assert [mask.shape for mask in masks] == [(30, 40), (30, 40)]
    assert masks[0][:, :19].all()
    assert not masks[0][:, 21:].any()
    assert some.ious.tolist() == pytest.approx([0.5, 0.9])
    assert (len(none.logits), len(none.ious), list(none.masks())) == (0, 0, [])


def test_a_detector_answers_the_tokens_it_is_given(opened: Open):
    detector = opened("groundingdino", "grounder")
    first, second = detector.detect(PICTURES, [[101, 5, 1012, 102], [101, 102]], 8)
    assert first.boxes.shape == (5, 4)
    assert (first.probabilities.shape, second.probabilities.shape) == ((5, 4), (5, 2))
    assert detector.max_text_len == 256
    assert detector.text([7, 8]) == "7 8"


def test_a_text_is_made_tokens_once(opened: Open):
    detector = opened("groundingdino", "grounder")
    assert [detector.tokens("a dog") for _ in range(3)] == [[1, 3]] * 3
    assert detector.worker.ask({"given": np.zeros(1)}, word="")["answered"] == 2


def test_a_detector_sees_pictures_at_upstreams_shapes_and_says_which_are_too_narrow(opened: Open):
    detector = opened("groundingdino", "grounder")
    assert detector.shape(640, 480) == (85, 64)
    assert detector.takes(640, 480)
    detector.facts["queries"] = 500
    assert not detector.takes(640, 480)


def test_a_tagger_has_upstreams_tags_and_thresholds_and_scores_every_picture(opened: Open):
    tagger = opened("ram", "tagger")
    assert tagger.tags == ["dog", "box", "ball"]
    assert tagger.thresholds.tolist() == [0.5, 0.5, 1.0]
    assert tagger.scores(PICTURES).tolist() == [[1.0, 0.5, 0.25], [0.0, 0.5, 0.25]]


def test_a_closed_engine_leaves_no_process(opened: Open):
    tagger = opened("ram", "tagger")
    tagger.close()
    with pytest.raises(ProcessLookupError):
        os.kill(tagger.facts["pid"], 0)


def test_a_family_without_a_reference_engine_is_refused(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="'blip2'; known: groundingdino"):
        open_reference("blip2", "captioner", tmp_path, "cpu")


def test_a_task_that_the_reference_engine_does_not_do_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="the reference engine of tag2text is a tagger, but a captioner"):
        open_reference("tag2text", "captioner", tmp_path, "cpu")
