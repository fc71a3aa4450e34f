"""Rows that break a rule cost their own image its rows, and nobody else's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from rows import at, image

from etl.stages.contract import Result
from etl.stages.outcomes import Header, slice_tables
from etl.stages.slices import Answer

HEADER = Header("ground", "annotator", "unit", at(0))


def answer(name: str, *, size: tuple[int, int] = (30, 20), **changed: Any) -> Answer:
    """One instance of an image of 30x20 pixels whose mask is of ``size`` (width, height)."""
    width, height = size
    counts = coco.encode(np.ones((height, width), dtype=np.uint8, order="F"))["counts"].decode()
    box = {"x1": 0.0, "y1": 0.0, "x2": 10.0, "y2": 10.0, "area": 100.0, "score": 0.5, "predicted_iou": 0.5}
    mask = {"mask_counts": counts, "mask_height": height, "mask_width": width, "mask_area": width * height}
    row = {"instance_id": name, "label": "dog", "phrase": "dog", **box, **mask, **changed}
    item = {"image_id": image(name), "shard_id": "s", "width": 30, "height": 20, "input_digest": "i"}
    return Answer(item, Result("ok", rows={"instances": [row]}, value=[name]))


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (answer("b", size=(20, 30)), "a mask of 20x30 pixels, of an image of 30x20"),
        (answer("b", size=(31, 20)), "a mask of 31x20 pixels, of an image of 30x20"),
        (answer("b", mask_counts="P2"), "mask_height x mask_width pixels"),
        (answer("b", mask_area=1), "mask_area pixels of the mask are set"),
        (answer("b", score=float("nan")), "score is finite"),
        (answer("b", instance_id=""), "instance_id is not empty"),
    ],
)
def test_an_image_whose_rows_break_a_rule_fails_with_the_rule_and_alone(wrong: Answer, rule: str) -> None:
    tables, counts = slice_tables(HEADER, [answer("a"), wrong, answer("c")])
    assert counts == {"failed/constraint": 1, "ok": 2}
    assert tables["instances"]["image_id"].to_pylist() == [image("a"), image("c")]
    (failed,) = [row for row in tables["outcomes"].to_pylist() if row["status"] == "failed"]
    assert (failed["image_id"], failed["reason"], failed["retryable"]) == (image("b"), "constraint", True)
    assert rule in failed["error"]
