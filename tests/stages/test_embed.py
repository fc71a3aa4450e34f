"""The stage embed."""

from typing import Any

import numpy as np
import pytest
from real_models import loaded_stage

from etl.lake.ids import digest_bytes
from etl.stages.contract import WorkItem
from etl.stages.embed import EmbedStage, texts_of

INSTANCES = [
    {"instance_id": "a", "label": "dog"},
    {"instance_id": "b", "label": "cup"},
    {"instance_id": "c", "label": "dog"},
]
CAPTIONS = [
    {"instance_id": None, "caption": "a room"},
    {"instance_id": "a", "caption": "a brown Dog"},
    {"instance_id": "b", "caption": "something round"},
    {"instance_id": "c", "caption": "dog"},
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> EmbedStage:
    return loaded_stage("embed", tmp_path_factory.mktemp("models"))


def described(instances: list[dict[str, Any]] = INSTANCES, captions: list[dict[str, Any]] = CAPTIONS) -> WorkItem:
    return WorkItem("i", "s", 10, 10, None, {"instances": instances, "captions": captions})


def test_the_texts_are_labels_captions_and_captions_led_by_a_label_they_do_not_name():
    assert texts_of(described()) == ["a brown Dog", "a room", "cup", "cup. something round", "dog", "something round"]


def test_an_empty_caption_has_no_text():
    captions = [{"instance_id": None, "caption": ""}, {"instance_id": "a", "caption": ""}]
    assert texts_of(described(INSTANCES[:1], captions)) == ["dog"]


def test_every_text_has_one_row_known_by_its_digest(stage: EmbedStage):
    (result,) = stage.process([described()])
    rows = result.rows["embeddings"]
    assert [row["text"] for row in rows] == texts_of(described())
    assert [row["text_sha256"] for row in rows] == [digest_bytes(row["text"].encode()) for row in rows] == result.value
    assert {len(row["vector"]) for row in rows} == {stage.encoder.width}


def test_vectors_do_not_depend_on_batch_mates(stage: EmbedStage):
    one, other = described(), described([], [{"instance_id": None, "caption": "a tree near the road"}])
    together = stage.process([one, other])
    for result, single in zip(together, [*stage.process([one]), *stage.process([other])], strict=True):
        assert result.value == single.value
        for row, alone in zip(result.rows["embeddings"], single.rows["embeddings"], strict=True):
            np.testing.assert_allclose(row["vector"], alone["vector"], atol=1e-5)


def test_a_picture_without_texts_needs_no_network(stage: EmbedStage):
    result = stage.skip(described([], []))
    assert (result.status, result.reason) == ("empty", "no_texts")
    assert stage.skip(described()) is None


def test_a_vector_that_is_not_finite_fails_only_the_pictures_that_have_its_text(
    stage: EmbedStage, monkeypatch: pytest.MonkeyPatch
):
    vectors = stage.encoder.vectors

    def broken(texts: list[str], batch_size: int) -> np.ndarray:
        return np.where(np.asarray([[text == "a room"] for text in texts]), np.nan, vectors(texts, batch_size))

    monkeypatch.setattr(stage.encoder, "vectors", broken)
    results = stage.process([described(), described(INSTANCES, CAPTIONS[1:])])
    assert [(result.status, result.reason) for result in results] == [("failed", "not_finite"), ("ok", None)]
