"""With the real converter: what must not come into a lake does not, and the reason names the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from etl.errors import DataError
from etl.models.weights.add import add


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
