"""Own labels: CLIP's sentences and vectors, and RAM asked for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import picture
from tiny_taggers import LABEL_WIDTH, write_label_encoder, write_tagger

from etl.errors import ConfigurationError
from etl.models.families import open_network
from etl.models.label_prompts import TEMPLATES, label_prompts
from etl.models.open_set import LabelEncoder
from etl.models.ram import Tagger

TEMPLATE_PAIR = ("a photo of {article} {}.", "one {}.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_encoder(tmp_path_factory.mktemp("clip") / "encoder")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> LabelEncoder:
    return open_network("clip-text", "label-encoder", folder, "cpu", "float32")


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    return Tagger(write_tagger(tmp_path / "ram", "ram"), "cpu", "float32")


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("Traffic_light", "This is a photo of a traffic light."),
        ("ant", "This is a photo of an ant."),
        ("cup/Mug", "This is a photo of a cup or mug."),
        ("U.S. flag.", "This is a photo of an u.s. flag."),
    ],
)
def test_a_label_becomes_a_sentence_as_upstream_makes_it(label: str, sentence: str):
    assert label_prompts(label, TEMPLATE_PAIR)[0] == sentence


def test_only_sentences_that_begin_with_a_or_the_are_led_by_this_is():
    texts = label_prompts("cat", ("one {}", "the {}", "a {}", "itap of {article} {}"))
    assert texts == ["one cat", "This is the cat", "This is a cat", "itap of a cat"]


def test_there_are_several_different_templates_by_default():
    assert len(set(label_prompts("cat"))) == len(TEMPLATES) > 10


def test_a_vector_is_the_mean_direction_of_its_sentences(encoder: LabelEncoder):
    vectors = encoder.label_vectors(["cat", "dog"], TEMPLATE_PAIR)
    for label, vector in zip(["cat", "dog"], vectors, strict=True):
        total = np.zeros(LABEL_WIDTH)
        for text in label_prompts(label, TEMPLATE_PAIR):
            ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
            with torch.inference_mode():
                hidden = encoder.network.text_model(input_ids=ids).last_hidden_state[0, -1].double().numpy()
            projected = encoder.network.text_projection.weight.detach().double().numpy() @ hidden
            total += projected / np.linalg.norm(projected)
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)


def test_a_vector_does_not_depend_on_the_other_labels(encoder: LabelEncoder):
    labels = ["cat", "dog", "x-ray", "a very long label of many words"]
    together = encoder.label_vectors(labels, TEMPLATE_PAIR)
    alone = np.concatenate([encoder.label_vectors([label], TEMPLATE_PAIR) for label in labels])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_folder_without_the_projection_is_refused(weights: dict[str, Path]):
    with pytest.raises(ConfigurationError, match=r"text_projection\.weight"):
        open_network("clip-text", "label-encoder", weights["clip-text"], "cpu", "float32")


def test_ram_answers_for_the_labels_it_is_asked_for(tagger: Tagger):
    own = tagger.head.label_embed.detach().numpy().copy()
    before = tagger.scores([picture(0)])
    tagger.ask_for(["seventh", "third"], own[[6, 2]], 0.5)
    np.testing.assert_allclose(tagger.scores([picture(0)]), before[:, [6, 2]], atol=1e-6)
    assert tagger.tags == ["seventh", "third"]
    assert tagger.thresholds.tolist() == [0.5, 0.5]


def test_vectors_of_another_clip_are_refused(tagger: Tagger):
    with pytest.raises(ConfigurationError, match=r"vectors \[1, 768\], the tagger needs 12 numbers(.|\n)*ViT-B/16"):
        tagger.ask_for(["cat"], np.ones((1, 768), np.float32), 0.5)
