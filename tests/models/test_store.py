"""The model store: weights are whole and unchanged, or refused."""

import json
from pathlib import Path

import pytest
from real_models import model_store

from etl.errors import ConfigurationError
from etl.models.store import (
    Stored,
    WeightsAbsentError,
    WeightsChangedError,
    file_digests,
    folder_digest,
    report_key,
)
from etl.settings import Network
from etl.storage import StorageError

NETWORK = Network(family="ram", weights="packaged:shapes/tagger@0123456789ab")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(b"weights")
    return folder


def test_weights_come_back_as_they_were_added(tmp_path: Path, folder: Path):
    models = model_store(tmp_path)
    digest = models.add(NETWORK, folder)
    assert digest == models.weights_digest(NETWORK) == folder_digest(models.fetch(NETWORK)) == folder_digest(folder)


def test_of_two_adders_the_first_is_kept(tmp_path: Path, folder: Path):
    models = model_store(tmp_path)
    first = models.add(NETWORK, folder)
    (folder / "config.json").write_text('{"other": 1}')
    assert models.add(NETWORK, folder) == first


def test_weights_that_were_never_added_are_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="not in the model store"):
        model_store(tmp_path).fetch(NETWORK)


def test_the_command_that_adds_upstreams_weights_is_the_remedy(tmp_path: Path):
    network = Network(family="sam", weights="catalog:sam-vit-h")
    with pytest.raises(WeightsAbsentError, match=r"groundlake models pull sam-vit-h(.|\n)*models add sam-vit-h FOLDER"):
        model_store(tmp_path).fetch(network)


def test_the_store_knows_what_weights_were_made_from(tmp_path: Path, folder: Path):
    models = model_store(tmp_path)
    digest = models.add(NETWORK, folder, sources={"upstream.pth": "a" * 64}, report={"renamed": {"a": "b"}})
    found = models.stored(NETWORK)
    assert found == Stored("ram", NETWORK.weights, digest, file_digests(folder), 9, {"upstream.pth": "a" * 64})
    assert list(models.all_stored()) == [found]
    assert models.store.read_json(report_key("ram", digest)) == {"renamed": {"a": "b"}}


def test_an_index_of_an_earlier_groundlake_is_read(tmp_path: Path, folder: Path):
    models = model_store(tmp_path)
    digest = models.add(NETWORK, folder)
    index = next((tmp_path / "lake" / "models" / "index").iterdir())
    index.write_text(json.dumps({"digest": digest, "files": file_digests(folder)}))
    assert models.stored(NETWORK) == Stored("ram", None, digest, file_digests(folder), None, {})
    assert models.fetch(NETWORK).is_dir()


@pytest.mark.parametrize("change", ["change", "remove"])
def test_a_changed_or_lost_file_of_the_store_is_named(tmp_path: Path, folder: Path, change: str):
    models = model_store(tmp_path)
    digest = models.add(NETWORK, folder)
    stored = tmp_path / "lake" / "models" / "ram" / digest / "sub" / "model.safetensors"
    stored.write_bytes(b"other") if change == "change" else stored.unlink()
    with pytest.raises(WeightsChangedError, match=r"sub/model\.safetensors") as caught:
        models.fetch(NETWORK)
    assert caught.value.files == ["sub/model.safetensors"]
    assert not (tmp_path / "cache" / "ram" / digest).exists()


def test_a_changed_local_copy_is_made_anew(tmp_path: Path, folder: Path):
    models = model_store(tmp_path)
    models.add(NETWORK, folder)
    (models.fetch(NETWORK) / "config.json").write_text("changed")
    assert folder_digest(models.fetch(NETWORK)) == folder_digest(folder)


def test_a_copy_that_broke_off_leaves_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    models = model_store(tmp_path)
    models.add(NETWORK, folder)
    whole = models.store.download

    def breaks(key: str, path: Path) -> None:
        if key.endswith("safetensors"):
            raise StorageError("download", key, "the line went dead")
        whole(key, path)

    monkeypatch.setattr(models.store, "download", breaks)
    with pytest.raises(StorageError):
        models.fetch(NETWORK)
    assert [path.name for path in (tmp_path / "cache" / "ram").iterdir()] == []
