"""With the real converter: networks come into a lake and open; what must not come does not, and is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from etl.errors import DataError
from etl.models.families import open_network
from etl.models.load import materialise
from etl.models.weights.add import add
from etl.models.weights.pull import pull
from etl.models.weights.verify import verify


class Crafted:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture
def put(models, entry, tmp_path):
    return lambda path: add(models, entry, [path], tmp_path / "scratch", lambda *_: None)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "given").mkdir()
    return tmp_path / "given" / "sam.pth"


def refused(put, models, entry, given: Path) -> str:
    with pytest.raises(DataError) as caught:
        put(given)
    assert models.stored(entry.network) is None
    assert not list(models.store.list("models/"))
    assert str(given) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("family", "task"), [("clip-text", "embedder"), ("blip2", "captioner")])
def test_a_published_folder_is_pulled_and_the_network_opens(models, entry_of, server, weights, tmp_path, family, task):
    published = sorted(weights[family].iterdir())
    for path in published:
        server.publish(f"/{path.name}", path.read_bytes())
    if family == "clip-text":  # whole CLIPs, as published, have their text tower below this name
        tower = load_file(weights[family] / "model.safetensors")
        tower = {f"text_model.{key}": tensor for key, tensor in tower.items()}
        server.publish("/model.safetensors", save(tower))
    entry = entry_of(*(path.name for path in published), name="published", family=family)
    added = pull(models, entry, tmp_path / "scratch", lambda *_: None)

    assert (added.report["missing"], added.report["unexpected"]) == ((), ())
    assert len(added.report["renamed"]) > 10
    folder = materialise(models, entry.network)
    assert open_network(family, task, folder, "cpu", "float32")
    assert not any(path.is_symlink() for path in (tmp_path / "lake").rglob("*"))
    assert next(iter(verify(models, {}, entry, lambda *_: None))).problems == ()


@pytest.mark.parametrize("old", [False, True], ids=["zip", "plain pickle"])
def test_a_file_that_carries_code(put, models, entry, given, tmp_path, old):
    ran = tmp_path / "ran"
    if old:
        given.write_bytes(pickle.dumps({"model": Crafted(ran)}, protocol=2))
    else:
        torch.save({"model": {"a": torch.zeros(1)}, "epoch": Crafted(ran)}, given)
    assert "carries code" in refused(put, models, entry, given)
    assert not ran.exists()


def test_half_a_file(put, models, entry, given):
    torch.save({"a": torch.zeros(10_000)}, given)
    content = given.read_bytes()
    given.write_bytes(content[: len(content) // 2])
    assert "cut short" in refused(put, models, entry, given)


def test_a_checkpoint_of_another_family(put, models, entry, given):
    keys = ("mask_decoder.hf_token.weight", "image_encoder.pos_embed", "mask_decoder.iou_token.weight")
    torch.save({key: torch.zeros(1, 256) for key in keys}, given)
    assert "SAM-HQ" in refused(put, models, entry, given)


def test_a_web_page(put, models, entry, given):
    given.write_text("<html>log in</html>")
    refused(put, models, entry, given)
