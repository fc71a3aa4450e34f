"""CLIP's text tower: the vector is the end token's hidden state, whatever the length."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

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
