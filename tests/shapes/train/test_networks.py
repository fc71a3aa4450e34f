"""A training of two steps writes, for every network, a folder that the loader of the big ones reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from etl.models.blip2 import Captioner as LoadedCaptioner
from etl.models.clip_text import TextEncoder
from etl.models.folders import check_folder
from etl.models.grounding_dino import Detector
from etl.models.ram import Tagger as LoadedTagger
from etl.models.sam import Segmenter as LoadedSegmenter
from etl.shapes.networks import read_swin
from etl.shapes.train import captioner, embedder, grounder, pool, segmenter, tagger
from etl.shapes.train.__main__ import PLANS
from etl.shapes.train.captioner import Captioner
from etl.shapes.train.cards import ABOUT
from etl.shapes.train.embedder import Embedder, shared
from etl.shapes.train.grounder import Grounder
from etl.shapes.train.loop import CHECKPOINT, Plan, train
from etl.shapes.train.publish import FAMILIES
from etl.shapes.train.segmenter import Segmenter
from etl.shapes.world.words import TAGS

LOADERS: dict[str, Any] = {
    "tagger": LoadedTagger,
    "grounder": Detector,
    "segmenter": LoadedSegmenter,
    "captioner": LoadedCaptioner,
    "embedder": TextEncoder,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all networks were trained for two steps; scored on a few scenes only."""
    root = tmp_path_factory.mktemp("trained")
    tasks: dict[str, Callable[[], Any]] = {
        "tagger": lambda: tagger.Tagger(0),
        "segmenter": lambda: Segmenter(0),
        "captioner": lambda: Captioner(0),
        "embedder": lambda: Embedder(0),
        "grounder": lambda: Grounder(0, root / "tagger" / "network"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in (captioner, grounder, segmenter, embedder):
            patch.setattr(module, "_HELD_OUT", 2)
        one = pool.numbered_sample("train", 1)
        patch.setattr(tagger, "_HELD_OUT", 1)  # it takes fifty at a time
        patch.setattr(tagger, "numbered_sample", lambda *_: one)
        patch.setattr(pool.Pool, "take", lambda self, count: [one] * count)
        for name, task in tasks.items():
            train(task(), Plan(steps=2, batch=2, learning_rate=1e-4), root / name)
    return root


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_loader_of_the_big_networks_reads_it(name: str, trained: Path):
    folder = trained / name / "network"
    check_folder(folder, FAMILIES[name])
    LOADERS[name](folder, "cpu", "float32")


@pytest.mark.parametrize("name", sorted(PLANS))
def test_weights_are_finite_and_in_half_precision(name: str, trained: Path):
    weights = load_file(trained / name / "network" / "model.safetensors")
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float16}
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("name", sorted(PLANS))
def test_every_score_is_explained_on_the_card(name: str, trained: Path):
    scores = torch.load(trained / name / CHECKPOINT, weights_only=True)["scores"]
    assert set(scores) == set(ABOUT[name].scores)


def test_the_tagger_knows_the_tags_of_the_world(trained: Path):
    assert tuple(LoadedTagger(trained / "tagger" / "network", "cpu", "float32").tags) == TAGS


def test_the_grounder_starts_with_the_taggers_swin_and_keeps_it_at_first(trained: Path):
    tagger = trained / "tagger" / "network"
    detector = Detector(trained / "grounder" / "network", "cpu", "float32")
    backbone = detector.network.model.backbone.conv_encoder.model
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    shared_names = read_swin(tagger, backbone)
    assert len(shared_names) > 50
    for name in shared_names:
        torch.testing.assert_close(backbone.state_dict()[name], before[name], atol=1e-3, rtol=1e-3)


def test_what_two_texts_share_is_the_cosine_of_their_attributes():
    texts = ["circle", "red circle", "striped red circle", "two shapes in red : a circle", "blue star"]
    root = np.sqrt([1, 2, 3, 3])
    expected = [1, 1 / root[1], 1 / root[2], 1 / root[3], 0]
    np.testing.assert_allclose(shared(texts)[0], expected, atol=1e-6)
    np.testing.assert_allclose(shared(texts), shared(texts).T)
