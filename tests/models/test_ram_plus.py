"""RAM++'s head against the formula written out in numpy, and the tagger around it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tagging_formulas
import torch
from real_models import picture
from tiny_taggers import DESCRIPTIONS, HEAD, LABEL_WIDTH, TAGS, WIDTH, make_head, write_tagger

from etl.errors import ConfigurationError
from etl.models.ram_plus import RamPlusHead, Tagger
from etl.models.swin_tagger import place_head


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("ram-plus") / "tagger", "ram-plus")


def test_the_head_is_the_formula():
    head = make_head("ram-plus", n_tags=5).double()
    head.reweight_scale.data.fill_(1.7)
    tokens = torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    with torch.inference_mode():
        logits = head(tokens).numpy()
    expected = [
        tagging_formulas.ram_plus(weights, one.numpy(), DESCRIPTIONS, HEAD["layers"], HEAD["heads"]) for one in tokens
    ]
    np.testing.assert_allclose(logits, np.stack(expected), atol=1e-9)


def test_descriptions_count_differently_for_different_pictures():
    head = make_head("ram-plus", n_tags=4)
    image = torch.randn(2, 3, LABEL_WIDTH, generator=torch.Generator().manual_seed(0))
    first, second = head.labels(image)
    assert not torch.allclose(first, second, atol=1e-2)


def test_the_head_has_a_row_for_each_of_a_tags_51_descriptions_and_upstreams_scale():
    head = RamPlusHead(n_tags=2, vision_width=WIDTH, embed_width=LABEL_WIDTH, **HEAD)
    assert head.state_dict()["label_embed"].shape == (2 * 51, LABEL_WIDTH)
    assert float(head.state_dict()["reweight_scale"].exp()) == pytest.approx(1 / 0.07)


def test_descriptions_are_weighted_in_float32_whatever_the_layers_dtype():
    head = place_head(make_head("ram-plus", n_tags=4), "cpu", torch.bfloat16)
    image = torch.randn(2, 3, LABEL_WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert (head.label_embed.dtype, head.fc.weight.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(head.labels(image), head.labels(image.float()).bfloat16(), atol=0, rtol=0)


def test_scores_differ_between_pictures_and_are_one_per_tag(folder: Path):
    scores = Tagger(folder, "cpu", "float32").scores([picture(seed) for seed in range(3)])
    assert scores.shape == (3, len(TAGS))
    assert scores.std(axis=0).mean() > 0.01


def test_descriptions_that_are_not_whole_tags_are_refused(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    config = json.loads((copy / "config.json").read_text())
    config["head"]["descriptions"] = 4
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=f"{len(TAGS) * DESCRIPTIONS} descriptions, which is not 4 for each"):
        Tagger(copy, "cpu", "float32")


def test_a_list_with_one_tag_too_many_is_refused(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    (copy / "ram_tag_list.txt").write_text("\n".join([*TAGS, "more"]))
    with pytest.raises(ConfigurationError, match=rf"{len(TAGS) + 1} tags in ram_tag_list\.txt"):
        Tagger(copy, "cpu", "float32")
