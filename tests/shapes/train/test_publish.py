"""Publishing puts weights, their card and their digits where the package keeps them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from etl.errors import ConfigurationError
from etl.models.store import folder_digest
from etl.shapes.train import publish as publishing
from etl.shapes.train.loop import CHECKPOINT
from etl.shapes.train.publish import publish

CATALOG = """# A comment that stays.
networks:
  detector: {family: groundingdino, weights: "packaged:shapes/grounder@0123456789ab"}
  segmenter: {family: sam, weights: "packaged:shapes/segmenter@0123456789ab"}
"""


class Desk:
    """A package to publish into, and a training to publish from."""

    def __init__(self, root: Path) -> None:
        self.trained, self.weights, self.models = root / "trained", root / "weights", root / "models"
        self.models.mkdir()
        (self.models / "ground.yaml").write_text(CATALOG)
        (self.models / "other.yaml").write_text("networks: {}\n")

    def train(self, value: float = 1.0, name: str = "segmenter") -> Path:
        network = self.trained / name / "network"
        network.mkdir(parents=True, exist_ok=True)
        (network / "config.json").write_text(json.dumps({"model_type": "sam"}))
        tensors = {"a": torch.full((10, 4), value).half(), "b": torch.zeros(2).half()}
        save_file(tensors, network / "model.safetensors")
        content = {"step": 6_000, "seconds": 4321.5, "drawn": 12_345, "scores": {"iou": 0.8567, "novel": 0.5}}
        torch.save(content, self.trained / name / CHECKPOINT)
        return network

    def publish(self, name: str = "segmenter") -> publishing.Published:
        return publish(name, self.trained, self.weights, self.models)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_folder_is_copied_and_everyone_may_read_it(desk: Desk):
    network = desk.train()
    (network / "model.safetensors").chmod(0o600)
    done = desk.publish()
    assert folder_digest(desk.weights / "segmenter") == folder_digest(network) == done.digest
    assert (desk.weights / "segmenter" / "model.safetensors").stat().st_mode & 0o044


def test_a_file_of_older_weights_does_not_stay(desk: Desk):
    (desk.weights / "segmenter").mkdir(parents=True)
    (desk.weights / "segmenter" / "old.json").write_text("{}")
    desk.train()
    assert desk.publish().digest == folder_digest(desk.weights / "segmenter")


def test_the_catalog_names_the_new_digits_and_nothing_else_changes(desk: Desk):
    desk.train()
    done = desk.publish()
    new = f"packaged:shapes/segmenter@{done.digest[:12]}"
    assert (desk.models / "ground.yaml").read_text() == CATALOG.replace("packaged:shapes/segmenter@0123456789ab", new)
    assert done.catalog == (desk.models / "ground.yaml",)


def test_the_card_says_what_how_and_how_good(desk: Desk):
    desk.train()
    done = desk.publish()
    text = (desk.weights / "segmenter.md").read_text()
    assert "# segmenter of the shapes pack" in text
    for part in ("SAM", done.digest, "42 parameters", "Apache-2.0", "6,000 of ", "12,345 scenes", "4,322 CPU seconds"):
        assert part in text
    assert "| masks for true boxes, mean IoU | 0.8567 |" in text
    assert "| novel | 0.5000 |" in text
    assert "python -m etl.shapes.train segmenter\n" in text


def test_twice_gives_the_same_bytes_and_the_card_is_no_part_of_the_digest(desk: Desk):
    desk.train()
    first, text = desk.publish(), (desk.weights / "segmenter.md").read_text()
    (desk.weights / "segmenter.md").write_text("edited")
    second = desk.publish()
    assert first == second
    assert (desk.weights / "segmenter.md").read_text() == text


def test_other_weights_have_other_digits(desk: Desk):
    desk.train(1.0)
    first = desk.publish()
    desk.train(2.0)
    assert desk.publish().digest != first.digest


def test_more_than_the_package_may_carry_is_refused_before_anything_is_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    desk.train()
    shutil.copytree(desk.trained / "segmenter" / "network", desk.weights / "tagger")
    size = sum(file.stat().st_size for file in (desk.weights / "tagger").iterdir())
    monkeypatch.setattr(publishing, "LIMIT", 2 * size - 1)
    with pytest.raises(ConfigurationError, match="together"):
        desk.publish()
    assert not (desk.weights / "segmenter").exists()
    monkeypatch.setattr(publishing, "LIMIT", 2 * size)
    assert desk.publish().total == 2 * size
    assert desk.publish().total == 2 * size  # its own older weights do not count


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda network: shutil.rmtree(network), "does not exist"),
        (lambda network: (network.parent / CHECKPOINT).unlink(), "train it: python -m etl.shapes.train segmenter"),
        (lambda network: (network / "model.safetensors").write_bytes(b"torn"), "cannot be read"),
        (lambda network: (network / "config.json").write_text('{"model_type": "ram"}'), "family 'sam' needs"),
    ],
    ids=["no network", "no checkpoint", "a torn file", "another family"],
)
def test_what_is_not_whole_is_refused(desk: Desk, break_it, words: str):
    break_it(desk.train())
    with pytest.raises(ConfigurationError, match=words):
        desk.publish()
    assert "0123456789ab" in (desk.models / "ground.yaml").read_text()
    assert not desk.weights.exists()


def test_a_network_that_no_catalog_file_names_is_refused(desk: Desk):
    desk.train()
    (desk.models / "ground.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"no file of .* names packaged:shapes/segmenter"):
        desk.publish()
    assert not desk.weights.exists()
