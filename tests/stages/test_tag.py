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
    return loaded_stage("tag", root)


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
    listed, given = (loaded_stage("tag", root, quantile=None, threshold=value) for value in (None, 0.3))
    scores = _scores(listed, dog=0.66, cat=0.65, car=0.31, bus=0.3)
    assert [tag["tag"] for tag in listed.choose(scores)] == ["dog"]
    assert [tag["tag"] for tag in given.choose(scores)] == ["dog", "cat", "car"]


def test_equal_scores_come_in_the_order_of_the_list(root: Path):
    stage = loaded_stage("tag", root, quantile=None, threshold=0.3)
    assert [tag["tag"] for tag in stage.choose(_scores(stage, dog=0.5, cat=0.5, bus=0.5))] == ["bus", "cat", "dog"]


def test_no_tag_above_its_threshold_is_an_empty_outcome(root: Path):
    stage = loaded_stage("tag", root, quantile=None, threshold=1.0)
    (result,) = stage.process([item(0)])
    assert (result.status, result.reason, dict(result.rows), result.value) == ("empty", "no_tags", {}, [])


def test_scores_that_are_not_finite_are_a_failed_outcome(root: Path):
    stage = loaded_stage("tag", root)
    stage.tagger.head.fc.bias.data.fill_(float("nan"))
    (result,) = stage.process([item(0)])
    assert (result.status, result.reason) == ("failed", "not_finite")


def test_an_excluded_tag_the_tagger_does_not_know_is_refused(root: Path):
    with pytest.raises(UnknownNameError, match="'colour'"):
        loaded_stage("tag", root, exclude_tags=["colour"])


def test_an_unknown_option_is_refused_before_anything_is_loaded():
    entry = load_catalog().model("tag")
    with pytest.raises(ConfigurationError, match="allowed keys"):
        TagStage(entry.model_copy(update={"options": {"treshold": 0.5}}))
