"""Who makes rows: everything that changes a result is in the id, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etl.errors import ConfigurationError
from etl.lake import Lake
from etl.models.store import ModelStore
from etl.settings import ModelEntry, Network
from etl.stages.annotators import Annotator, annotator_of, register

NETWORK = Network(family="ram", weights="packaged:tiny/tagger@000000000001")
OTHER = Network(family="ram", weights="packaged:tiny/tagger@000000000002")


@pytest.fixture
def models(lake: Lake, tmp_path, fakes, monkeypatch) -> ModelStore:
    """A model store with the weights of two networks; the fake tagger needs one."""
    monkeypatch.setattr(fakes.FakeTag, "roles", {"tagger": "tagger"})
    store = ModelStore(lake.store, tmp_path / "cache")
    for number, network in enumerate((NETWORK, OTHER)):
        folder = tmp_path / f"weights{number}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights %d" % number)
        store.add(network, folder)
    return store


def entry(fakes: Any, network: Network = NETWORK, options: dict[str, Any] | None = None, **changed: Any) -> ModelEntry:
    return fakes.entry("tag", **(options or {})).model_copy(update={"networks": {"tagger": network}, **changed})


def annotator(fakes: Any, models: ModelStore, **changed: Any) -> Annotator:
    found = annotator_of(fakes.FakeTag, entry(fakes, **changed), models)
    assert found is not None
    return found


def test_without_weights_in_the_store_there_is_no_annotator(fakes, models):
    missing = Network(family="ram", weights="packaged:tiny/tagger@000000000003")

    assert annotator_of(fakes.FakeTag, entry(fakes, missing), models) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"network": OTHER},
        {"options": {"word": "other"}},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
        {"compile": True},
    ],
    ids=["weights", "an option", "dtype", "attention", "compile"],
)
def test_what_changes_results_changes_the_id(fakes, models, changed):
    assert annotator(fakes, models, **changed).annotator_id != annotator(fakes, models).annotator_id


def test_a_raised_version_changes_the_id(fakes, models, monkeypatch):
    before = annotator(fakes, models).annotator_id
    monkeypatch.setattr(fakes.FakeTag, "VERSION", 2)

    assert annotator(fakes, models).annotator_id != before


@pytest.mark.parametrize(
    "changed",
    [{"name": "renamed"}, {"default": False}, {"untrained": False}, {"batch_size": 99}, {"options": {"word": "thing"}}],
    ids=["name", "default", "untrained", "batch in float32", "an option at its default"],
)
def test_what_changes_no_result_leaves_the_id(fakes, models, changed):
    assert annotator(fakes, models, **changed).annotator_id == annotator(fakes, models).annotator_id


def test_in_reduced_precision_the_batch_is_part_of_the_id(fakes, models):
    one, two = (annotator(fakes, models, dtype="bfloat16", batch_size=size) for size in (4, 8))

    assert one.annotator_id != two.annotator_id


def test_a_wrong_option_names_model_key_and_what_is_allowed(fakes, models):
    with pytest.raises(ConfigurationError, match=r"options of model 'fake-tag': thresold: .*allowed keys: word"):
        annotator(fakes, models, options={"thresold": 0.5})


def test_networks_that_are_not_the_stages_roles_are_refused(fakes, models):
    with pytest.raises(ConfigurationError, match=r"networks \['eye'\], but stage 'tag' needs \['tagger'\]"):
        annotator(fakes, models, networks={"eye": NETWORK})


class TestRegister:
    def rows(self, lake: Lake, table: str) -> list[dict[str, Any]]:
        return lake.table(table).to_pyarrow_table().to_pylist()

    def test_it_is_written_once_with_its_record(self, lake, fakes, models):
        mine = annotator(fakes, models)
        for _ in range(2):
            register(lake, mine, "a")

        (row,) = self.rows(lake, "annotators")
        assert (row["annotator_id"], row["stage"], row["model"]) == (mine.annotator_id, "tag", "fake-tag")
        assert row["untrained"]
        assert json.loads(row["record"])["networks"]["tagger"]["weights_sha256"] == models.weights_digest(NETWORK)

    def test_the_first_of_a_stage_and_source_promotes_itself(self, lake, fakes, models):
        first, second = annotator(fakes, models), annotator(fakes, models, network=OTHER)
        register(lake, first, "a")
        register(lake, second, "a")
        register(lake, second, "b")

        current = {(row["source"], row["annotator_id"]) for row in self.rows(lake, "current")}
        assert current == {("a", first.annotator_id), ("b", second.annotator_id)}
