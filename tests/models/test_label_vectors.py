"""Vectors of own labels are made once per lake, and every later load gets the very same numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from real_models import model_store
from tiny_taggers import network, write_label_encoder

from etl.models.families import open_network
from etl.models.label_vectors import Vectors, kept_vectors
from etl.models.store import ModelStore
from etl.settings import Network

LABELS = ("kite", "traffic light", "zebra")
TEMPLATES = ("a photo of {article} {}.", "one {}.")


class Encoder:
    """A label encoder that counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.network = network("clip-text", folder)
        self.folder, self.asked = folder, 0

    def kept(self, models: ModelStore, labels=LABELS, templates=TEMPLATES, given: Network | None = None) -> Vectors:
        def make() -> Vectors:
            self.asked += 1
            encoder = open_network("clip-text", "label-encoder", self.folder, "cpu", "float32")
            return encoder.label_vectors(labels, templates)

        return kept_vectors(models, given or self.network, labels, templates, make)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("clip")
    return [write_label_encoder(root / str(seed), seed=seed) for seed in (0, 9)]


@pytest.fixture
def encoder(folders: list[Path]) -> Encoder:
    return Encoder(folders[0])


def files(root: Path) -> list[Path]:
    return sorted((root / "lake" / "models" / "label-vectors").iterdir())


def test_a_second_load_asks_nothing_and_gets_the_same_numbers(tmp_path: Path, encoder: Encoder):
    first = encoder.kept(model_store(tmp_path))
    second = encoder.kept(model_store(tmp_path))
    assert encoder.asked == 1
    assert first.tobytes() == second.tobytes()
    assert (second.dtype, second.shape) == (np.float32, first.shape)


def test_what_changes_a_vector_is_asked_for_anew(tmp_path: Path, encoder: Encoder, folders: list[Path]):
    models = model_store(tmp_path)
    encoder.kept(models)
    encoder.kept(models, labels=LABELS[::-1])
    encoder.kept(models, templates=TEMPLATES[:1])
    encoder.kept(models, given=network("clip-text", folders[1]))
    assert encoder.asked == len(files(tmp_path)) == 4


def test_of_two_makers_the_first_is_kept(tmp_path: Path, encoder: Encoder):
    models = model_store(tmp_path)

    def make() -> Vectors:
        return -encoder.kept(models)  # a twin is faster, on a device with other last bits

    vectors = kept_vectors(models, encoder.network, LABELS, TEMPLATES, make)
    assert vectors.tobytes() == encoder.kept(models).tobytes()
    assert encoder.asked == 1


def saved(values: np.ndarray, *, pickled: bool = False) -> bytes:
    content = io.BytesIO()
    np.save(content, values, allow_pickle=pickled)
    return content.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-4],
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: saved(np.full((3, 12), np.nan, np.float32)),
        lambda whole: saved(np.zeros((3, 12), np.float32)),
        lambda whole: saved(np.ones((2, 1), np.float32)),
        lambda whole: saved(np.ones((3, 1), np.float64)),
        lambda whole: saved(np.ones(3, np.float32)),
        lambda whole: saved(np.array([print], dtype=object), pickled=True),
    ],
    ids=["cut", "half a head", "empty", "nan", "zeros", "too few", "float64", "one row", "a pickle"],
)
def test_what_is_damaged_is_made_anew_and_mended(tmp_path: Path, encoder: Encoder, damage):
    models = model_store(tmp_path)
    first = encoder.kept(models)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert encoder.kept(models).tobytes() == first.tobytes()
    assert (encoder.asked, file.read_bytes()) == (2, whole)
