"""The page of the images that went worst: truth left, prediction right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scored_lake import Answer, Object, ScoredLake

from etl.errors import ConfigurationError, DataError
from etl.evaluate.evaluation import Evaluation, evaluate
from etl.evaluate.picture import CELL, GAP, draw_worst
from etl.viewer.draw import colour_of

DOG = Answer(["dog"], [Object("dog", (8, 6, 20, 20), caption="a dog")], "one dog")
CAT = Answer(["cat"], [Object("cat", (8, 6, 20, 20), caption="a cat")], "one cat")


@pytest.fixture(scope="module")
def found(scored: ScoredLake) -> Evaluation:
    scored.truth([DOG, DOG, DOG])
    scored.say("seen", [CAT, DOG, None], current="hand")
    return evaluate(scored.lake, truth="truth")


def columns_of(page: np.ndarray, label: str) -> set[str]:
    """On which side of the first block a colour is found, of outlines that are whole."""
    left, right = page[:, : GAP + CELL], page[:, GAP + CELL : 2 * GAP + 2 * CELL]
    sides = {"left": left, "right": right}
    return {name for name, side in sides.items() if (side == colour_of(label)).all(axis=-1).sum() > 100}


def test_the_truth_is_left_and_the_prediction_right(scored: ScoredLake, found: Evaluation, tmp_path: Path) -> None:
    # The worst has no prediction at all, the next a wrong label.
    assert draw_worst(scored.lake, found, tmp_path / "new" / "one.png", limit=1) == 1
    page = np.asarray(Image.open(tmp_path / "new" / "one.png"))
    assert columns_of(page, "dog") == {"left"}
    assert columns_of(page, "cat") == set()


def test_the_worst_come_first_and_no_more_than_asked_for(scored: ScoredLake, found: Evaluation, tmp_path: Path) -> None:
    assert draw_worst(scored.lake, found, tmp_path / "two.png", limit=2) == 2
    second = np.asarray(Image.open(tmp_path / "two.png"))[:, 2 * CELL + 3 * GAP :]
    assert columns_of(second, "dog") == {"left"}
    assert columns_of(second, "cat") == {"right"}
    assert draw_worst(scored.lake, found, tmp_path / "all.png") == 3


def test_the_same_lake_gives_the_same_page(scored: ScoredLake, found: Evaluation, tmp_path: Path) -> None:
    for name in ("one.png", "again.png"):
        draw_worst(scored.lake, found, tmp_path / name, limit=1)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_a_place_that_cannot_be_written_is_said(scored: ScoredLake, found: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write"):
        draw_worst(scored.lake, found, tmp_path / "file" / "page.png", limit=1)


def test_pictures_taken_down_since_are_not_shown(scored: ScoredLake, found: Evaluation, tmp_path: Path) -> None:
    scored.add("takedowns", kind="image_id", value=found.worst[0].image_id)
    assert draw_worst(scored.lake, found, tmp_path / "page.png") == 2
    for one in found.worst[1:]:
        scored.add("takedowns", kind="image_id", value=one.image_id)
    with pytest.raises(DataError, match="no image of the evaluation is left"):
        draw_worst(scored.lake, found, tmp_path / "page.png")
