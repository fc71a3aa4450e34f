"""RAM's head against the formula written out in numpy, and the tagger around it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tagging_formulas
import torch
from real_models import picture

from etl.errors import ConfigurationError
from etl.models.ram import RamHead, Tagger


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
    expected = np.stack([tagging_formulas.ram(weights, one.numpy(), layers=2, heads=4) for one in tokens])
    np.testing.assert_allclose(logits, expected, atol=1e-9)


def test_what_all_pictures_are_asked_alike_is_projected_once_for_a_batch():
    head = RamHead(n_tags=5, vision_width=4, embed_width=4, hidden_size=4, layers=2, heads=2, intermediate_size=4)
    seen: list[list[int]] = []
    for layer in head.tagging_head.encoder["layer"]:
        layer.crossattention["self"].query.register_forward_hook(
            lambda _module, given, _: seen.append([*given[0].shape])
        )
    head(torch.randn(3, 7, 4))
    assert seen == [[1, 5, 4], [3, 5, 4]]


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
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (5, len(tagger.tags))
    assert ((together > 0) & (together < 1)).all()
    assert together.std(axis=0).mean() > 0.01


def test_in_bfloat16_scores_stay_close_to_those_in_float32(weights: dict[str, Path]):
    pictures = [picture(seed) for seed in range(4)]
    exact, rounded = (Tagger(weights["ram"], "cpu", dtype).scores(pictures) for dtype in ("float32", "bfloat16"))
    np.testing.assert_allclose(rounded, exact, atol=0.05)
    assert not np.array_equal(rounded, exact)


def test_the_last_tag_counts_though_its_line_has_no_end(weights: dict[str, Path]):
    text = (weights["ram"] / "tag_list.txt").read_text()
    assert not text.endswith("\n")
    assert Tagger(weights["ram"], "cpu", "float32").tags == text.split("\n")


def test_thresholds_that_do_not_fit_the_tags_are_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["ram"], tmp_path / "ram"))
    (folder / "tag_list_threshold.txt").write_text("0.5\n0.6\n")
    with pytest.raises(ConfigurationError, match="but 2 lines"):
        Tagger(folder, "cpu", "float32")


def test_a_tag_list_of_another_length_than_the_networks_is_refused(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["ram"], tmp_path / "ram"))
    lines = (folder / "tag_list.txt").read_text().split("\n")
    (folder / "tag_list.txt").write_text("\n".join(lines[:-1]))
    expected = rf"{len(lines) - 1} tags in tag_list\.txt, but the network answers for {len(lines)}"
    with pytest.raises(ConfigurationError, match=expected):
        Tagger(folder, "cpu", "float32")
