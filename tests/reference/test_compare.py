"""How two engines' answers are compared."""

from typing import Any

import numpy as np
import pytest

from etl.errors import DataError
from etl.reference.compare import compare

FULL = np.asarray([[[4.0, -2.0], [1e-8, 3.0]]], np.float32)


def tagged(scores: list[float], tags: list[str], **more: Any) -> dict[str, Any]:
    names = np.asarray(["run", "dog", "run"])
    thresholds = np.asarray([0.5, 0.5, 0.6])
    return {"scores": np.asarray(scores), "tags": np.asarray(tags), "names": names, "thresholds": thresholds, **more}


def detected(*rows: list[float], ids: tuple[int, ...] = (200, 203), chosen: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
    proposals = {"proposals": np.asarray([-4.0, 3.0, 3.0 - 1e-6, 1.0]), "chosen": np.asarray(chosen)}
    return {"probabilities": np.asarray(rows), "ids": np.asarray(ids), **proposals}


def test_differences_are_given_as_they_are_and_as_a_share_of_the_largest_value():
    theirs = [{"logits": np.asarray([1.0, -4.0]), "full": FULL}]
    ours = [{"logits": np.asarray([1.5, -4.0]), "masks": FULL > 0}]
    found = compare("sam", theirs, ours)
    (one,) = found.differences
    assert (one.name, one.largest, one.relative) == ("logits", 0.5, 0.125)
    assert found.beyond(0.2) == []
    assert found.beyond(0.1) == ["logits differ by 0.12"]


def test_a_number_that_is_none_is_beyond_every_limit():
    theirs, ours = ([{"logits": np.asarray([value]), "full": FULL, "masks": FULL > 0}] for value in (1.0, np.nan))
    assert compare("sam", theirs, ours).beyond(1.0)


def test_pixels_that_differ_say_how_far_from_the_edge_they_are():
    near, far = FULL > 1e-6, FULL > 3.5
    theirs = [{"logits": np.zeros(1), "full": FULL}]
    close = compare("sam", theirs, [{"logits": np.zeros(1), "masks": near}])
    assert (close.mask_pixels_apart, close.mask_pixels) == (1, 4)
    assert close.mask_margin < 1e-8
    assert close.beyond(1e-5) == []
    wrong = compare("sam", theirs, [{"logits": np.zeros(1), "masks": far}])
    assert (wrong.mask_pixels_apart, wrong.mask_margin) == (2, 0.75)
    assert wrong.beyond(1e-5)


def test_a_detection_that_only_one_engine_gives_is_named():
    theirs = [detected([0.5, 0.4], [0.1, 0.1])]
    ours = [detected([0.5, 0.2], [0.1, 0.1])]
    found = compare("groundingdino", theirs, ours)
    assert found.labels == 2
    assert found.labels_apart == (
        "picture 0: box 0 with tokens 200, 203 upstream only",
        "picture 0: box 0 with tokens 200 ours only",
    )
    assert found.label_margin == pytest.approx(0.15)  # 0.4 is as far above the threshold of tokens
    assert any("labels differ" in one for one in found.beyond(0.1))


def test_a_box_that_rounding_takes_over_its_threshold_is_no_difference_of_labels():
    found = compare("groundingdino", [detected([0.350001, 0.3])], [detected([0.349999, 0.3])])
    assert len(found.labels_apart) == 1
    assert found.label_margin == pytest.approx(1e-6)
    assert not any("labels" in one for one in found.beyond(1e-5))


def test_prompts_with_other_tokens_are_never_the_same():
    found = compare("groundingdino", [detected([0.5, 0.4])], [detected([0.5, 0.4], ids=(200, 204))])
    assert found.label_margin == 1.0


@pytest.mark.parametrize(("chosen", "margin"), [((1, 2), 0.0), ((2, 1), 2.5e-7), ((1, 3), 0.5)])
def test_proposals_may_be_chosen_in_another_order_where_their_scores_are_the_same_but_for_rounding(
    chosen: tuple[int, int], margin: float
):
    found = compare("groundingdino", [detected([0.5, 0.4], chosen=(1, 2))], [detected([0.5, 0.4], chosen=chosen)])
    assert found.proposals == 2
    assert found.proposals_apart == sum(one != other for one, other in zip(chosen, (1, 2), strict=True))
    assert found.proposal_margin == pytest.approx(margin, abs=1e-6)
    assert bool(found.beyond(1e-5)) == (margin > 1e-5)


def test_a_tag_that_only_one_engine_gives_is_named_and_twins_of_a_name_are_two():
    found = compare("ram", [tagged([0.9, 0.1, 0.9], ["run", "run"])], [tagged([0.9, 0.1, 0.5], ["run"])])
    assert found.labels == 2
    assert found.labels_apart == ("picture 0: 'run' upstream only",)
    assert found.label_margin == pytest.approx(0.3)


def test_other_tags_for_the_same_scores_are_a_difference():
    same = [0.9, 0.1, 0.1]
    found = compare("ram", [tagged(same, ["dog"])], [tagged(same, ["run"])])
    assert len(found.labels_apart) == 2
    assert found.label_margin == 1.0


def test_captions_are_compared_word_by_word():
    theirs = [tagged([0.9, 0.1, 0.1], ["run"], caption=np.asarray("a  red star "))]
    assert compare("tag2text", theirs, [{**theirs[0], "caption": np.asarray("a red star")}]).captions_apart == ()
    found = compare("tag2text", theirs, [{**theirs[0], "caption": np.asarray("a red dog")}])
    assert found.captions == 1
    assert found.captions_apart == ("picture 0: 'a red star' upstream, 'a red dog' ours",)
    assert found.beyond(1.0) == ["1 captions differ"]


def test_answers_of_other_shapes_are_not_compared():
    with pytest.raises(DataError, match="logits of picture 0"):
        compare("sam", [{"logits": np.zeros(2)}], [{"logits": np.zeros(3)}])
