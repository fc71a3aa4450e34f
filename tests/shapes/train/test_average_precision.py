"""Average precision, on boxes whose score is known."""

import numpy as np
import pytest
from handmade_samples import sample

from etl.shapes.train.average_precision import Found, average_precision

SCENE = sample(((0, 0, 0), (0, 0, 40, 40)), ((3, 0, 0), (50, 10, 90, 60)))
Answer = tuple[tuple[float, float, float, float], float, int]
FIRST: Answer = ((0, 0, 40, 40), 0.9, 0)
SECOND: Answer = ((50, 10, 90, 60), 0.8, 3)


def score(*answers: Answer) -> tuple[float, float]:
    boxes = np.asarray([box for box, _, _ in answers], float).reshape(-1, 4)
    scores = np.asarray([value for _, value, _ in answers], np.float32)
    return average_precision([Found(SCENE, boxes, scores, np.asarray([label for *_, label in answers]))])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((FIRST, SECOND), (1.0, 1.0)),
        ((FIRST, ((50, 10, 90, 60), 0.8, 4)), (0.5, 0.5)),
        ((((0, 0, 40, 25), 0.9, 0), SECOND), (0.65, 1.0)),
        ((FIRST, SECOND, ((60, 65, 75, 78), 0.95, 0)), (0.75, 0.75)),
    ],
    ids=["all right", "one wrong shape", "one box with an IoU of 0.625", "one box too many, and too sure"],
)
def test_known_answers_have_known_scores(answers: tuple[Answer, ...], expected: tuple[float, float]):
    assert score(*answers) == pytest.approx(expected, abs=1e-4)


def test_boxes_that_the_pipeline_would_suppress_do_not_count():
    again = ((1, 0, 40, 40), 0.85, 0)
    assert score(FIRST, again, SECOND) == (1.0, 1.0)
    other_shape_surer = ((0, 0, 40, 39), 0.95, 5)
    assert score(FIRST, other_shape_surer, SECOND) == pytest.approx((0.5, 0.5))
