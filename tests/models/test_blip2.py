"""BLIP-2 with OPT and with Flan-T5: LAVIS's search, captions without their prompt, the same in any batch."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import picture
from safetensors.torch import load_file, save_file
from tiny_captioners import blip2_folder, noise, sharded
from torch import nn

from etl.errors import ConfigurationError
from etl.models.blip2 import Caption, Captioner

LANGUAGES = ("opt", "t5")
CROPS = [noise(seed, 1 + 29 * seed % 97, 3 + 11 * seed % 53) for seed in range(16)]
SEARCH: dict[str, Any] = {"prompt": "w3 w4", "beams": 3, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Captioner]:
    root = tmp_path_factory.mktemp("blip2")
    return {one: Captioner(blip2_folder(root / one, one), "cpu", "float32") for one in LANGUAGES}


@pytest.fixture(scope="module")
def alone(tiny: dict[str, Captioner]) -> dict[str, list[Caption]]:
    """The caption of each crop in a batch of its own."""
    return {one: tiny[one].captions(CROPS, batch_size=1, **SEARCH) for one in LANGUAGES}


@pytest.fixture(scope="module")
def captioner(weights: dict[str, Path]) -> Captioner:
    return Captioner(weights["blip2"], "cpu", "float32")


class TestBatches:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_batch_of_64_gives_the_captions_of_64_batches_of_one(
        self, tiny: dict[str, Captioner], alone: dict[str, list[Caption]], language: str
    ):
        together = tiny[language].captions(CROPS * 4, batch_size=64, **SEARCH)
        assert [one.text for one in together] == [one.text for one in alone[language]] * 4
        assert [one.score for one in together] == pytest.approx([one.score for one in alone[language]] * 4, abs=1e-5)
        assert len({one.text for one in together}) > 5

    @pytest.mark.parametrize("language", LANGUAGES)
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(chosen=st.lists(st.integers(0, 15), min_size=1, max_size=16), batch_size=st.integers(1, 24))
    def test_captions_do_not_depend_on_order_or_batch_mates(
        self,
        tiny: dict[str, Captioner],
        alone: dict[str, list[Caption]],
        language: str,
        chosen: list[int],
        batch_size: int,
    ):
        found = tiny[language].captions([CROPS[index] for index in chosen], batch_size=batch_size, **SEARCH)
        assert [one.text for one in found] == [alone[language][index].text for index in chosen]

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_in_bfloat16_batches_have_one_size_so_that_a_caption_is_the_same_in_any(
        self, tmp_path: Path, language: str
    ):
        half = Captioner(blip2_folder(tmp_path, language), "cpu", "bfloat16")
        whole = half.captions(CROPS[:5], batch_size=4, **SEARCH)
        assert half.captions(CROPS[4:5], batch_size=4, **SEARCH) == whole[4:]

    def test_the_packaged_network_gives_the_same_captions_in_any_batch(self, captioner: Captioner):
        pictures = [picture(seed, 40 + 30 * seed, 90) for seed in range(6)]
        together = captioner.captions(pictures, batch_size=6, beams=3, max_new_tokens=8)
        alone = [captioner.captions([one], batch_size=1, beams=3, max_new_tokens=8)[0] for one in pictures]
        assert [one.text for one in together] == [one.text for one in alone]
        assert len({one.text for one in together}) > 2


class TestSearch:
    """Against a search written out here, one token at a time, on the embeddings LAVIS gives its language models."""

    @pytest.mark.parametrize("prompt", ["", "w3 w4"])
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_language_model_reads_queries_and_prompt_as_in_lavis(
        self, tiny: dict[str, Captioner], language: str, prompt: str
    ):
        found = tiny[language].captions(CROPS[:4], batch_size=4, prompt=prompt, beams=1, max_new_tokens=4)
        expected = [_greedy(tiny[language], crop, prompt, 4)[0] for crop in CROPS[:4]]
        assert [one.text for one in found] == expected

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_score_is_the_mean_log_probability_of_the_tokens_and_the_end(
        self, tiny: dict[str, Captioner], language: str, monkeypatch: pytest.MonkeyPatch
    ):
        captioner, generated = tiny[language], []
        decode = captioner.tokenizer.batch_decode
        monkeypatch.setattr(
            captioner.tokenizer, "batch_decode", lambda ids, **options: generated.extend(ids) or decode(ids, **options)
        )
        captions = captioner.captions(CROPS[:6], batch_size=6, **SEARCH)
        for crop, caption, ids in zip(CROPS, captions, generated, strict=False):
            tokens = _up_to_end(captioner, ids.tolist())
            assert caption.score == pytest.approx(_mean(captioner, crop, SEARCH["prompt"], tokens), abs=1e-5)

    def test_a_picture_is_read_once_however_many_beams_there_are(self, tiny: dict[str, Captioner]):
        captioner, seen = tiny["opt"], []
        layer = captioner.network.language_model.model.decoder.layers[0]
        hook = layer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
        try:
            captioner.captions(CROPS[:1], batch_size=1, **SEARCH)
        finally:
            hook.remove()
        queries = captioner.network.config.num_query_tokens
        # Queries, </s> and one word of the prompt; then its last word and every new token, once per beam.
        assert seen == [(1, queries + 2), *[(3, 1)] * (len(seen) - 1)]

    def test_greedy_search_has_no_score(self, captioner: Captioner):
        (greedy,) = captioner.captions([picture(0)], batch_size=1, beams=1, max_new_tokens=4)
        assert greedy.score is None

    def test_flan_t5_may_say_nothing_as_lavis_lets_it(self, tmp_path: Path):
        captioner = Captioner(blip2_folder(tmp_path, "t5"), "cpu", "float32")
        hidden = _read(captioner, CROPS[0], "", [0], hidden=True)
        captioner.network.language_model.lm_head.weight.data[1] = hidden[-1] * 10
        (silent,) = captioner.captions(CROPS[:1], batch_size=1, beams=2)
        assert silent.text == ""

    def test_the_prompt_steers_but_is_not_in_the_caption(self, captioner: Captioner):
        (plain,) = captioner.captions([picture(0)], batch_size=1, beams=1, max_new_tokens=3)
        (prompted,) = captioner.captions(
            [picture(0)], batch_size=1, beams=1, max_new_tokens=3, prompt="a small dog near"
        )
        assert len(prompted.text.split()) <= 3
        assert prompted.text != plain.text

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_what_a_checkpoint_says_about_searching_is_not_heard(
        self, tmp_path: Path, alone: dict[str, list[Caption]], language: str
    ):
        folder = blip2_folder(tmp_path, language)
        odd = {"do_sample": True, "temperature": 9.0, "num_beams": 7, "max_length": 3, "repetition_penalty": 5.0}
        (folder / "generation_config.json").write_text(json.dumps(odd))
        (odd_one,) = Captioner(folder, "cpu", "float32").captions(CROPS[:1], batch_size=1, **SEARCH)
        assert _same(odd_one, alone[language][0])


class TestFolders:
    def test_an_early_configuration_without_an_image_token_is_read(
        self, weights: dict[str, Path], tmp_path: Path, captioner: Captioner
    ):
        folder = Path(shutil.copytree(weights["blip2"], tmp_path / "captioner"))
        _edit_config(folder, lambda config: config.pop("image_token_index"))
        (early,) = Captioner(folder, "cpu", "float32").captions([picture(0)], batch_size=1)
        assert _same(early, captioner.captions([picture(0)], batch_size=1)[0])

    def test_a_configuration_that_counts_other_queries_than_the_weights_have_is_refused(self, tmp_path: Path):
        folder = blip2_folder(tmp_path, "opt")
        _edit_config(folder, lambda config: config.pop("num_query_tokens"))  # 32 then, as published
        with pytest.raises(ConfigurationError, match=r"another shape 1 keys: .*query_tokens"):
            Captioner(folder, "cpu", "float32")

    def test_flan_t5_in_float16_is_refused(self, tmp_path: Path):
        with pytest.raises(ConfigurationError, match="bfloat16 or float32"):
            Captioner(blip2_folder(tmp_path, "t5"), "cpu", "float16")

    def test_flan_t5_without_its_own_output_layer_is_refused(self, tmp_path: Path):
        folder = blip2_folder(tmp_path, "t5")
        tensors = load_file(folder / "model.safetensors")
        del tensors["language_model.lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigurationError, match=r"lack 1 keys: language_model\.lm_head\.weight"):
            Captioner(folder, "cpu", "float32")

    def test_flan_t5_keeps_its_own_output_layer_and_the_exact_gelu_of_lavis(self, tiny: dict[str, Captioner]):
        language = tiny["t5"].network.language_model
        assert not torch.equal(language.lm_head.weight, language.shared.weight)
        assert language.config.dense_act_fn == "gelu"

    @pytest.mark.parametrize("said", [1e-5, 1e-6])
    def test_the_vision_tower_of_lavis_gets_its_two_epsilons_whatever_a_configuration_says(
        self, tmp_path: Path, said: float
    ):
        wide = {"hidden_size": 1408, "num_hidden_layers": 1, "intermediate_size": 8, "layer_norm_eps": said}
        vision = Captioner(blip2_folder(tmp_path, "opt", vision=wide), "cpu", "float32").network.vision_model
        norms = {name: one.eps for name, one in vision.named_modules() if isinstance(one, nn.LayerNorm)}
        # eva_vit.py asks for 1e-6 in every block; ln_vision of blip2.py is a LayerNorm that nobody told an epsilon.
        assert norms.pop("post_layernorm") == 1e-5
        assert len(norms) == 2
        assert set(norms.values()) == {1e-6}

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_weights_in_shards_are_read(self, tmp_path: Path, alone: dict[str, list[Caption]], language: str):
        folder = sharded(blip2_folder(tmp_path, language))
        (found,) = Captioner(folder, "cpu", "float32").captions(CROPS[:1], batch_size=1, **SEARCH)
        assert _same(found, alone[language][0])

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_missing_shard_is_named(self, tmp_path: Path, language: str):
        folder = sharded(blip2_folder(tmp_path, language))
        (folder / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(ConfigurationError, match="model-00002-of-00003"):
            Captioner(folder, "cpu", "float32")


def _same(one: Caption, other: Caption) -> bool:
    """Equal but for the last bits, which change with where in memory the weights lie."""
    return one.text == other.text and one.score == pytest.approx(other.score, abs=1e-5)


def _edit_config(folder: Path, change: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@torch.inference_mode()
def _read(captioner: Captioner, crop: Any, prompt: str, generated: list[int], *, hidden: bool = False) -> torch.Tensor:
    """Log probabilities [tokens] (or hidden states) after the last query or word, then after each generated token."""
    network, words = captioner.network, captioner.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    seen = network.get_image_features(captioner.preprocessor.square([crop])).pooler_output
    embed = network.get_input_embeddings()
    if captioner.decoder_only:  # queries, </s>, prompt, and on
        read = torch.cat([seen, embed(torch.tensor([[2, *words, *generated]]))], dim=1)
        logits = network.language_model(inputs_embeds=read).logits[0, -1 - len(generated) :]
        return torch.log_softmax(logits, dim=-1)
    read = torch.cat([seen, embed(torch.tensor([[*words, 1]]))], dim=1)  # queries, prompt, </s>
    decoded = torch.tensor([generated if hidden else [0, *generated]])
    output = network.language_model(inputs_embeds=read, decoder_input_ids=decoded, output_hidden_states=True)
    return output.decoder_hidden_states[-1][0] if hidden else torch.log_softmax(output.logits[0], dim=-1)


def _greedy(captioner: Captioner, crop: Any, prompt: str, tokens: int) -> tuple[str, list[int]]:
    ids: list[int] = []
    end = captioner.text_config.eos_token_id
    while len(ids) < tokens and end not in ids:
        following = _read(captioner, crop, prompt, ids)[-1].clone()
        if captioner.decoder_only and not ids:
            following[end] = -torch.inf  # OPT says one token at least
        ids.append(int(following.argmax()))
    return " ".join(captioner.tokenizer.decode(ids, skip_special_tokens=True).split()), ids


def _up_to_end(captioner: Captioner, ids: list[int]) -> list[int]:
    end, tokens = captioner.text_config.eos_token_id, ids if captioner.decoder_only else ids[1:]
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def _mean(captioner: Captioner, crop: Any, prompt: str, ids: list[int]) -> float:
    following = _read(captioner, crop, prompt, ids)[: len(ids)]
    return float(following[range(len(ids)), ids].mean())
