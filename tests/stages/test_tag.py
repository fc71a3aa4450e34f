"""The stage tag."""

from pathlib import Path

import numpy as np
import pytest
from real_models import item, loaded_stage

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import load_catalog
from etl.stages.tag import TagStage

SIZES = [(200, 150), (48, 300), (90, 90), (320, 200), (150, 60)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def stage(root: Path) -> TagStage:
    """Whatever its network knows, some tags come out."""
    return loaded_stage("tag", root, quantile=0.5, max_tags=4, exclude_tags=["red", "blue", "dotted"])


def _scores(stage: TagStage, **scores: float) -> np.ndarray:
    return np.asarray([scores.get(tag, 0.0) for tag in stage.tagger.tags], np.float32)


def test_every_picture_gets_a_row_of_its_best_tags(stage: TagStage):
    for result in stage.process([item(seed) for seed in range(4)]):
        (row,) = result.rows["tags"]
        scores = [tag["score"] for tag in row["tags"]]
        assert result.status == "ok"
        assert 1 <= len(scores) <= stage.options.max_tags
        assert scores == sorted(scores, reverse=True)
        assert result.value == sorted(tag["tag"] for tag in row["tags"])
        assert not set(result.value) & set(stage.options.exclude_tags)


def test_results_do_not_depend_on_batch_mates(stage: TagStage):
    items = [item(seed, *size) for seed, size in enumerate(SIZES)]
    alone = [stage.process([one])[0] for one in items]
    assert stage.process(items) == alone
    assert stage.process(items[::-1]) == alone[::-1]


def test_thresholds_are_the_lists_unless_one_is_given(root: Path):
    listed, given = (loaded_stage("tag", root, threshold=value) for value in (None, 0.3))
    listed.tagger.thresholds[listed.tagger.tags.index("star")] = 0.65
    scores = _scores(listed, circle=0.51, star=0.65, heart=0.31, ring=0.3)
    assert [tag["tag"] for tag in listed.choose(scores)] == ["circle"]
    assert [tag["tag"] for tag in given.choose(scores)] == ["star", "circle", "heart"]


def test_a_quantile_gives_the_best_share_of_a_pictures_own_scores(stage: TagStage):
    scores = np.linspace(0.1, 0.2, len(stage.tagger.tags), dtype=np.float32)
    best = [tag for tag in stage.tagger.tags[::-1] if tag not in stage.options.exclude_tags]
    assert [tag["tag"] for tag in stage.choose(scores)] == best[:4]


def test_equal_scores_come_in_the_order_of_the_list(root: Path):
    stage = loaded_stage("tag", root, threshold=0.3)
    chosen = stage.choose(_scores(stage, star=0.5, ring=0.5, circle=0.5))
    assert [tag["tag"] for tag in chosen] == ["circle", "ring", "star"]


def test_no_tag_above_its_threshold_is_an_empty_outcome(root: Path):
    stage = loaded_stage("tag", root, threshold=1.0)
    (result,) = stage.process([item(0)])
    assert (result.status, result.reason, dict(result.rows), result.value) == ("empty", "no_tags", {}, [])


def test_scores_that_are_not_finite_are_a_failed_outcome(root: Path):
    stage = loaded_stage("tag", root)
    stage.tagger.head.fc.bias.data.fill_(float("nan"))
    (result,) = stage.process([item(0)])
    assert (result.status, result.reason) == ("failed", "not_finite")


def test_a_tag_whose_own_threshold_is_one_is_off_whatever_the_options_say(root: Path):
    for options in ({"threshold": 0.1}, {"quantile": 0.1}, {"threshold": None}):
        stage = loaded_stage("tag", root, **options)
        stage.tagger.thresholds[stage.tagger.tags.index("star")] = 1.0
        tags = [tag["tag"] for tag in stage.choose(_scores(stage, star=1.0, ring=0.9))]
        assert tags == ["ring"], options


def test_a_name_that_stands_for_two_tags_is_given_once_with_the_better_score(root: Path):
    stage = loaded_stage("tag", root, max_tags=2)
    stage.tagger.tags[stage.tagger.tags.index("ring")] = "star"
    stage.tagger.tags[stage.tagger.tags.index("star")] = "star"
    scores = np.asarray(
        [0.6 + 0.01 * n if tag == "star" else 0.0 for n, tag in enumerate(stage.tagger.tags)], np.float32
    )
    scores[stage.tagger.tags.index("circle")] = 0.55
    best = max(float(score) for score in scores)
    assert stage.choose(scores) == [{"tag": "star", "score": round(best, 4)}, {"tag": "circle", "score": 0.55}]


def test_an_excluded_tag_the_tagger_does_not_know_is_refused(root: Path):
    with pytest.raises(UnknownNameError, match="'colour'"):
        loaded_stage("tag", root, exclude_tags=["colour"])


def test_an_unknown_option_is_refused_before_anything_is_loaded():
    entry = load_catalog().model("tag")
    with pytest.raises(ConfigurationError, match="allowed keys"):
        TagStage(entry.model_copy(update={"options": {"treshold": 0.5}}))
