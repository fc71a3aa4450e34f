"""CLIP's text tower: the vector is the end token's hidden state, whatever the length."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_captioners import sharded
from tiny_clip import END, LENGTH, START, clip_folder

from etl.errors import ConfigurationError
from etl.models.clip_text import TextEncoder


@pytest.fixture(scope="module")
def encoder(weights: dict[str, Path]) -> TextEncoder:
    return TextEncoder(weights["clip-text"], "cpu", "float32")


def test_a_vector_is_the_hidden_state_of_the_end_token(encoder: TextEncoder):
    ids = encoder.tokenizer("a red cat")["input_ids"]
    assert ids[-1] == encoder.tokenizer.eos_token_id != 2
    with torch.inference_mode():
        hidden = encoder.network(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    np.testing.assert_allclose(encoder.vectors(["a red cat"], 8)[0], hidden.numpy(), atol=1e-5)


def test_a_text_beyond_the_networks_length_is_cut_and_keeps_its_end_token(encoder: TextEncoder):
    length = encoder.network.config.max_position_embeddings
    long, longer = " ".join(["dog"] * length), " ".join(["dog"] * 2 * length)
    vectors = encoder.vectors([long, longer, "dog"], 8)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])


def test_vectors_do_not_depend_on_batch_mates(encoder: TextEncoder):
    texts = ["dog", "a small brown dog near a house", "cat", "x", "the traffic light"]
    alone = np.concatenate([encoder.vectors([text], 1) for text in texts])
    np.testing.assert_allclose(encoder.vectors(texts, 2), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.vectors(texts[::-1], 5)[::-1], alone, atol=1e-5)


def test_different_texts_have_different_vectors_also_beyond_the_vocabulary(encoder: TextEncoder):
    vectors = encoder.vectors(["dog", "cat", "zebra", "giraffe", "x-ray"], 8)
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert distances[~np.eye(5, dtype=bool)].min() > 0.1


def test_no_texts_give_no_vectors(encoder: TextEncoder):
    assert encoder.vectors([], 4).shape == (0, encoder.width)


def test_a_network_that_would_pool_another_token_is_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["clip-text"], tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 7}))
    with pytest.raises(ConfigurationError, match="pools token 7"):
        TextEncoder(folder, "cpu", "float32")


@pytest.fixture
def openai(tmp_path: Path) -> Callable[..., Path]:
    """A text tower with OpenAI's layout of ids: the end token, which pads too, is the last of them."""
    return lambda name="clip", **config: clip_folder(tmp_path / name, **config)


@torch.inference_mode()
def pooled(encoder: TextEncoder, ids: list[int], position: int) -> np.ndarray:
    """The hidden state at a position, of the text alone and without padding."""
    hidden: torch.Tensor = encoder.network(input_ids=torch.tensor([ids])).last_hidden_state[0, position]
    return hidden.numpy()


@pytest.mark.parametrize("end", [2, END])
def test_the_end_token_is_pooled_by_early_configurations_and_by_later_ones(openai: Callable[..., Path], end: int):
    encoder = TextEncoder(openai(eos_token_id=end), "cpu", "float32")
    ids = [START, 7, 3, END]  # an early configuration says 2, and transformers pools the largest id then
    np.testing.assert_allclose(encoder.vectors(["e a"], 4)[0], pooled(encoder, ids, 3), atol=1e-5)


def test_early_and_later_configurations_give_equal_vectors(openai: Callable[..., Path]):
    texts = ["a b c", "", "c " * 100, "a"]
    early, later = (
        TextEncoder(openai(str(end), eos_token_id=end), "cpu", "float32").vectors(texts, 4) for end in (2, END)
    )
    np.testing.assert_allclose(early, later, atol=1e-5)


def test_a_long_text_is_cut_as_openai_cuts_it(openai: Callable[..., Path]):
    encoder = TextEncoder(openai(), "cpu", "float32")
    words = [number % 5 for number in range(LENGTH + 20)]
    kept = [START, *(3 + word for word in words)][: LENGTH - 1]  # OpenAI: the first ids, the last one replaced
    text = " ".join("abcde"[word] for word in words)
    np.testing.assert_allclose(encoder.vectors([text], 1)[0], pooled(encoder, [*kept, END], LENGTH - 1), atol=1e-5)


def test_a_text_that_just_fits_is_not_cut(openai: Callable[..., Path]):
    encoder = TextEncoder(openai(), "cpu", "float32")
    fits, over = " ".join("a" * (LENGTH - 2)), " ".join("a" * (LENGTH - 3) + "bc")
    np.testing.assert_allclose(
        encoder.vectors([fits], 1)[0], pooled(encoder, [START, *[3] * (LENGTH - 2), END], LENGTH - 1), atol=1e-5
    )
    assert not np.allclose(encoder.vectors([fits], 1), encoder.vectors([over], 1))


def test_equal_texts_have_equal_vectors_and_an_empty_one_has_one_too(openai: Callable[..., Path]):
    encoder = TextEncoder(openai(), "cpu", "float32")
    vectors = encoder.vectors(["", "a b", "", "a b", "a b"], 2)
    np.testing.assert_allclose(vectors[0], pooled(encoder, [START, END], 1), atol=1e-5)
    np.testing.assert_allclose(vectors[[2, 3, 4]], vectors[[0, 1, 1]], atol=1e-6)


def test_published_names_of_keys_are_read(openai: Callable[..., Path]):
    folder, plain = openai("hub"), openai("plain")
    tensors = load_file(folder / "model.safetensors")
    named = {key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in tensors.items()}
    named["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]  # early checkpoints hold it
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    found, expected = (TextEncoder(one, "cpu", "float32").vectors(["a b"], 1) for one in (folder, plain))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_projection_for_own_labels_is_read_past(openai: Callable[..., Path]):
    folder, plain = openai("projected", projection_dim=16), openai("plain")
    tensors = {f"text_model.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    tensors["text_projection.weight"] = torch.ones(16, 16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found, expected = (TextEncoder(one, "cpu", "float32").vectors(["a b"], 1) for one in (folder, plain))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_in_shards_are_read(openai: Callable[..., Path]):
    whole = TextEncoder(openai("whole"), "cpu", "float32").vectors(["a b"], 1)
    parts = TextEncoder(sharded(openai("parts")), "cpu", "float32").vectors(["a b"], 1)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_missing_shard_is_named(openai: Callable[..., Path]):
    folder = sharded(openai())
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="model-00002-of-00003"):
        TextEncoder(folder, "cpu", "float32")


@pytest.mark.parametrize("config", [{"eos_token_id": 5}, {"eos_token_id": 2, "last": "a"}])
def test_a_configuration_that_pools_no_end_token_is_refused(openai: Callable[..., Path], config: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="the network pools token"):
        TextEncoder(openai(**config), "cpu", "float32")
