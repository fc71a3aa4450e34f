"""Verify finds every way in which stored weights are not what was added."""

from __future__ import annotations

import json

import pytest
from real_models import model_store

from etl.models.store import file_key
from etl.models.weights.verify import verify
from etl.settings import Network, WeightsFile


def quiet(*_: object) -> None:
    """No progress."""


@pytest.fixture
def stored(models, entry, tmp_path):
    """The folder of weights in the store, added under the entry's name."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "sam"}')
    (folder / "model.safetensors").write_bytes(b"numbers" * 100)
    digest = models.add(entry.network, folder, sources={"sam.pth": "a" * 64})
    return tmp_path / "lake" / "models" / "sam" / digest


@pytest.fixture
def problems(models, entry, stored):
    return lambda of=entry: [p for one in verify(models, {of.name: of}, of, quiet) for p in one.problems]


def test_what_is_as_it_was_added_has_no_problems(problems):
    assert problems() == []


def test_a_changed_file_is_named_with_both_digests(problems, stored):
    (stored / "model.safetensors").write_bytes(b"other")
    assert [text.partition(":")[0] for text in problems()] == ["model.safetensors was changed"]


def test_a_lost_file_is_named(problems, stored):
    (stored / "config.json").unlink()
    assert problems() == ["config.json is missing"]


def test_a_changed_index_is_noticed(problems, models, entry, stored, tmp_path):
    index = next((tmp_path / "lake" / "models" / "index").iterdir())
    content = json.loads(index.read_text())
    content["files"].pop("config.json")
    index.write_text(json.dumps(content))
    assert problems() == ["its index was changed: the digests of the files do not make up the digest of the whole"]


def test_a_pin_that_says_otherwise_is_a_problem(problems, entry):
    pinned = WeightsFile(name="sam.pth", url=entry.files[0].url, sha256="b" * 64)
    found = problems(entry.model_copy(update={"files": (pinned,)}))
    assert found == [f"it was made from a sam.pth with the sha256 {'a' * 64}, the catalog pins {'b' * 64}"]


def test_a_file_that_the_catalog_names_since_is_a_problem(problems, entry):
    more = (*entry.files, WeightsFile(name="tags.txt", url=entry.files[0].url))
    assert problems(entry.model_copy(update={"files": more})) == [
        "it was made without tags.txt, which the catalog names"
    ]


def test_without_a_name_all_weights_are_checked(models, entry, stored, tmp_path):
    other = Network(family="sam-hq", weights="file:/elsewhere")
    models.add(other, tmp_path / "made")
    (tmp_path / "lake" / file_key("sam-hq", stored.name, "config.json")).unlink()
    found = {one.stored.weights: one.problems for one in verify(models, {}, None, quiet)}
    assert found == {"catalog:sam-mine": (), "file:/elsewhere": ("config.json is missing",)}


def test_a_large_file_is_read_in_pieces(problems, monkeypatch):
    monkeypatch.setattr("etl.models.weights.verify._PIECE", 64)
    assert problems() == []


def test_an_empty_store_has_nothing_to_check(tmp_path):
    assert list(verify(model_store(tmp_path), {}, None, quiet)) == []
