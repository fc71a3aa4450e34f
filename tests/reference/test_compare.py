"""How two engines' answers are compared."""

import numpy as np
import pytest

from etl.errors import ConfigurationError
from etl.reference.environment import VARIABLE, reference_python
from etl.reference.parity import compare

FULL = np.asarray([[[4.0, -2.0], [1e-8, 3.0]]], np.float32)


def test_differences_are_given_as_they_are_and_as_a_share_of_the_largest_value():
    theirs = [{"logits": np.asarray([1.0, -4.0]), "full": FULL}]
    ours = [{"logits": np.asarray([1.5, -4.0]), "masks": FULL > 0}]
    (found,) = compare("sam", theirs, ours).differences
    assert (found.name, found.largest, found.relative) == ("logits", 0.5, 0.125)


def test_pixels_that_differ_say_how_far_from_the_edge_they_are():
    near, far = FULL > 1e-6, FULL > 3.5
    theirs = [{"logits": np.zeros(1), "full": FULL}]
    close = compare("sam", theirs, [{"logits": np.zeros(1), "masks": near}])
    assert (close.mask_pixels_apart, close.mask_pixels) == (1, 4)
    assert close.mask_margin < 1e-8
    wrong = compare("sam", theirs, [{"logits": np.zeros(1), "masks": far}])
    assert (wrong.mask_pixels_apart, wrong.mask_margin) == (2, 0.75)


def test_a_label_that_only_one_engine_gives_is_named():
    theirs = [{"probabilities": np.asarray([[0.5, 0.4], [0.1, 0.1]]), "ids": np.asarray([200, 203])}]
    ours = [{"probabilities": np.asarray([[0.5, 0.2], [0.1, 0.1]]), "ids": np.asarray([200, 203])}]
    found = compare("groundingdino", theirs, ours)
    assert found.labels == 2
    assert found.labels_apart == ("picture 0: (0, (200, 203)) upstream only", "picture 0: (0, (200,)) ours only")


def test_answers_of_other_shapes_are_not_compared():
    with pytest.raises(ValueError, match="logits of picture 0"):
        compare("sam", [{"logits": np.zeros(2)}], [{"logits": np.zeros(3)}])


def test_a_missing_environment_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match="make reference"):
        reference_python()
