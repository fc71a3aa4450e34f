"""RAM's head against the formula written out in numpy, and the tagger around it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import picture

from etl.errors import ConfigurationError
from etl.models.ram import RamHead, Tagger


def _erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.vectorize(erf)(x)


def _head_in_numpy(w: dict[str, np.ndarray], tokens: np.ndarray, layers: int, heads: int) -> np.ndarray:
    """Logits [tags] of one picture's tokens [tokens, width], one attention head after the other."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    image = linear(tokens, "image_proj")
    x = np.maximum(linear(w["label_embed"], "wordvec_proj"), 0)
    for number in range(layers):
        layer = f"tagging_head.encoder.layer.{number}"
        q, k, v = (
            linear(given, f"{layer}.crossattention.self.{name}")
            for given, name in ((x, "query"), (image, "key"), (image, "value"))
        )
        size = q.shape[1] // heads
        parts = []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            logits = q[:, columns] @ k[:, columns].T / np.sqrt(size)
            share = np.exp(logits - logits.max(1, keepdims=True))
            parts.append(share / share.sum(1, keepdims=True) @ v[:, columns])
        attended = linear(np.concatenate(parts, 1), f"{layer}.crossattention.output.dense")
        x = norm(attended + x, f"{layer}.crossattention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / np.sqrt(2)))
        x = norm(linear(inner, f"{layer}.output.dense") + x, f"{layer}.output.LayerNorm")
    return linear(x, "fc")[:, 0]


def test_the_head_is_the_formula():
    torch.manual_seed(0)
    sizes = {"n_tags": 5, "vision_width": 12, "embed_width": 8, "hidden_size": 16, "intermediate_size": 20}
    head = RamHead(**sizes, layers=2, heads=4).double().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    tokens = torch.randn(3, 7, 12, dtype=torch.float64)
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    with torch.inference_mode():
        logits = head(tokens).numpy()
    expected = np.stack([_head_in_numpy(weights, one.numpy(), layers=2, heads=4) for one in tokens])
    np.testing.assert_allclose(logits, expected, atol=1e-9)


def test_the_heads_parameters_have_upstreams_names():
    head = RamHead(
        n_tags=3, vision_width=4, embed_width=4, hidden_size=4, layers=1, heads=1, intermediate_size=4
    ).state_dict()
    layer = "tagging_head.encoder.layer.0."
    modules = [f"{layer}crossattention.self.{name}" for name in ("query", "key", "value")]
    modules += [f"{layer}crossattention.output.{name}" for name in ("dense", "LayerNorm")]
    modules += [f"{layer}intermediate.dense", f"{layer}output.dense", f"{layer}output.LayerNorm"]
    modules += ["image_proj", "wordvec_proj", "fc"]
    assert set(head) == {"label_embed", *(f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))}


def test_scores_differ_between_pictures_but_not_between_batches(weights: dict[str, Path]):
    tagger = Tagger(weights["ram"], "cpu", "float32")
    pictures = [picture(seed, 60 + 40 * seed, 200) for seed in range(5)]
    together = tagger.scores(pictures)
    alone = np.concatenate([tagger.scores([one]) for one in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (5, len(tagger.tags))
    assert ((together > 0) & (together < 1)).all()
    assert together.std(axis=0).mean() > 0.01


def test_the_last_tag_counts_though_its_line_has_no_end(weights: dict[str, Path]):
    text = (weights["ram"] / "tag_list.txt").read_text()
    assert not text.endswith("\n")
    assert Tagger(weights["ram"], "cpu", "float32").tags == text.split("\n")


def test_thresholds_that_do_not_fit_the_tags_are_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["ram"], tmp_path / "ram"))
    (folder / "tag_list_threshold.txt").write_text("0.5\n0.6\n")
    with pytest.raises(ConfigurationError, match="but 2 lines"):
        Tagger(folder, "cpu", "float32")
