"""Tag2Text: its head against the formula written out in numpy, its tags by number, and its captions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tagging_formulas
import torch
from real_models import picture
from safetensors.torch import load_file, save_file
from tiny_taggers import HEAD, TAGS_TWICE, WIDTH, make_head, write_tagger

from etl.errors import ConfigurationError
from etl.models import tag2text_captions
from etl.models.tag2text import Tagger
from etl.models.tag2text_captions import Captioner

PICTURES = [picture(seed, 60 + 30 * seed, 90) for seed in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("tag2text") / "tagger", "tag2text")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return Captioner(folder, "cpu", "float32")


def texts(captioner: Captioner, batch_size: int, pictures=PICTURES, **options) -> list[str]:
    options = {"beams": 3, "max_new_tokens": 12, **options}
    return [one.text for one in captioner.captions(pictures, batch_size=batch_size, **options)]


def test_the_head_is_the_formula():
    head = make_head("tag2text", n_tags=5).double()
    tokens = torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    with torch.inference_mode():
        logits = head(tokens).numpy()
    expected = [tagging_formulas.tag2text(weights, one.numpy(), HEAD["layers"], HEAD["heads"]) for one in tokens]
    np.testing.assert_allclose(logits, np.stack(expected), atol=1e-9)


def test_the_heads_own_parameters_have_upstreams_names():
    names = {name for name in make_head("tag2text", n_tags=5).state_dict() if not name.startswith("tagging_head.")}
    assert names == {"label_embed.weight", "fc.W", "fc.b"}


def test_thresholds_are_the_rules_of_the_configuration(folder: Path):
    assert Tagger(folder, "cpu", "float32").thresholds.tolist() == [0.5, 0.6, *[0.5] * 6, 1.0, 0.5]


def test_without_a_rule_the_numbers_are_upstreams(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    config = json.loads((copy / "config.json").read_text())
    del config["tagging"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"names the tags \[127, 1167, 2701, .*\], but there are 10"):
        Tagger(copy, "cpu", "float32")


def test_tags_of_one_name_are_told_apart_by_number(folder: Path):
    tagger = Tagger(folder, "cpu", "float32")
    scores = np.zeros(len(TAGS_TWICE), np.float32)
    scores[[1, 2, 5, 8]] = 0.6, 0.6, 0.7, 0.9  # tag 1 needs more than .6; tag 8 is deleted
    assert tagger.names(scores) == ["run", "run"]


def test_the_tagger_needs_nothing_of_the_captioner(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    _keep(copy, lambda key: not key.startswith(("tag_encoder.", "text_decoder.")))
    whole, part = (Tagger(one, "cpu", "float32").scores(PICTURES) for one in (folder, copy))
    np.testing.assert_array_equal(whole, part)
    with pytest.raises(ConfigurationError, match="holds Tag2Text's tagger only"):
        Captioner(copy, "cpu", "float32")


@pytest.mark.parametrize("batch_size", [2, 5])
def test_every_picture_of_a_batch_has_a_caption_of_its_own(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch, batch_size: int
):
    alone = texts(captioner, 1)
    assert len(set(alone)) > 2
    monkeypatch.setattr(tag2text_captions, "steady_size", lambda size, device, dtype: size)
    assert texts(captioner, batch_size) == alone
    assert texts(captioner, batch_size, PICTURES[::-1]) == alone[::-1]


def test_a_caption_is_the_likeliest_next_token_again_and_again(captioner: Captioner):
    with torch.inference_mode():
        memory = captioner._memory(PICTURES[:1])
        ids = start = captioner._prompt("a picture of")
        for _ in range(12):  # by the whole text each time: nothing is kept from the step before
            logits = captioner.text_decoder(input_ids=torch.tensor([ids]), encoder_hidden_states=memory).logits[0, -1]
            if len(ids) < tag2text_captions.MIN_LENGTH:
                logits[captioner.tokenizer.sep_token_id] = -torch.inf
            ids = [*ids, int(logits.argmax())]
            if ids[-1] == captioner.tokenizer.sep_token_id:
                break
    said = captioner.tokenizer.decode(ids[len(start) :], skip_special_tokens=True, clean_up_tokenization_spaces=True)
    (caption,) = captioner.captions(PICTURES[:1], batch_size=1, beams=1, max_new_tokens=12)
    assert caption.text == " ".join(said.split())
    assert caption.score is None


def test_tags_change_the_caption(captioner: Captioner, monkeypatch: pytest.MonkeyPatch):
    before = texts(captioner, 1)
    monkeypatch.setattr(captioner.tagger, "thresholds", np.ones(len(TAGS_TWICE)))
    assert texts(captioner, 1) != before


def test_tags_are_read_after_their_own_start_token_and_cut_after_forty_tokens(captioner: Captioner, monkeypatch):
    seen = {}
    network = captioner.tag_encoder

    def listen(**given):
        seen.update(given)
        return network(**given)

    monkeypatch.setattr(captioner, "tag_encoder", listen)
    monkeypatch.setattr(captioner.tagger, "names", lambda scores: ["cat", "dog"] * 20)
    with torch.inference_mode():
        captioner._memory(PICTURES[:1])
    words = [captioner.tokenizer.convert_tokens_to_ids(word) for word in ("cat", "|", "dog")]
    ids = seen["input_ids"][0].tolist()
    assert ids[:4] == [len(captioner.tokenizer) + 1, *words]
    assert (len(ids), ids[-1]) == (40, captioner.tokenizer.sep_token_id)


def test_the_prompt_is_upstreams_unless_another_is_given_and_is_not_in_the_caption(captioner: Captioner):
    plain, same, other = (texts(captioner, 1, prompt=prompt) for prompt in ("", "a picture of ", "a dog"))
    assert plain == same != other
    assert not any(text.startswith("a picture of") for text in plain)


def test_a_score_is_a_mean_log_probability(captioner: Captioner):
    (caption,) = captioner.captions(PICTURES[:1], batch_size=1, beams=2, max_new_tokens=4)
    assert caption.score is not None
    assert -20 < caption.score < 0


def test_in_bfloat16_the_last_batch_is_filled_up(folder: Path):
    captioner = Captioner(folder, "cpu", "bfloat16")
    assert texts(captioner, 3, PICTURES[:4])[3:] == texts(captioner, 3, PICTURES[3:4])


def test_a_tokenizer_of_another_vocabulary_is_refused(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    config = json.loads((copy / "config.json").read_text())
    config["text"]["vocab_size"] += 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"two more were expected, for \[DEC\] and \[ENC\]"):
        Captioner(copy, "cpu", "float32")


def test_a_missing_key_of_the_captioner_is_named(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "tagger"))
    _keep(copy, lambda key: not key.endswith("layer.1.output.dense.bias"))
    with pytest.raises(ConfigurationError, match=r"lack 1 keys: encoder\.layer\.1\.output\.dense\.bias"):
        Captioner(copy, "cpu", "float32")


def _keep(folder: Path, wanted) -> None:
    """Leave out keys of the captioner."""
    weights = load_file(folder / "model.safetensors")
    own = ("tag_encoder.", "text_decoder.")
    kept = {key: value for key, value in weights.items() if not key.startswith(own) or wanted(key)}
    save_file(kept, folder / "model.safetensors")
