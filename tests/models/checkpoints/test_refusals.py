"""Checkpoints that are not what they are given as: refused by name, key or shape, before anything is written."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_taggers import TAGS, write_tagger
from upstream_facts import upstream_state
from upstream_layouts import hub_weights, small_groundingdino, small_sam, upstream_layout

from etl.errors import UnknownNameError
from etl.models.checkpoints import convert, groundingdino, ram, recognise, sam
from etl.models.checkpoints.errors import CheckpointError, QuantisedError, WrongFamilyError, WrongKeysError
from etl.models.tokenizers import detector_tokenizer

State = dict[str, torch.Tensor]
PUBLISHED = {
    "sam": "sam_vit_b_01ec64",
    "sam-hq": "sam_hq_vit_b",
    "ram": "ram_swin_large_14m",
    "ram-plus": "ram_plus_swin_large_14m",
    "tag2text": "tag2text_swin_14m",
    "groundingdino": "groundingdino_swint_ogc",
}
TITLES = {"sam": "SAM", "sam-hq": "SAM-HQ", "ram": "RAM", "ram-plus": r"RAM\+\+", "tag2text": "Tag2Text"}
TITLES["groundingdino"] = "GroundingDINO"
TOKENIZER = detector_tokenizer(["star"])


@pytest.fixture(scope="module")
def whole() -> State:
    """A small SAM in upstream's layout."""
    return upstream_layout("sam_vit_b_01ec64", sam.KEYS, hub_weights(small_sam()))


@pytest.fixture
def refused(tmp_path: Path, out: Path) -> Callable[..., WrongKeysError]:
    """The error that a state dict is refused with, and that nothing was written."""

    def refuse(state: State) -> WrongKeysError:
        torch.save(state, tmp_path / "net.pth")
        with pytest.raises(WrongKeysError) as error:
            convert("sam", {"net.pth": tmp_path / "net.pth"}, out)
        assert str(tmp_path / "net.pth") in error.value.message
        assert "download it again" in str(error.value.remedy)
        assert list(out.iterdir()) == []
        return error.value

    return refuse


@pytest.mark.parametrize(("given", "really"), itertools.permutations(PUBLISHED, 2))
def test_a_checkpoint_of_another_family_is_refused_by_name(tmp_path: Path, out: Path, given: str, really: str):
    path = tmp_path / "net.safetensors"
    save_file({key: torch.zeros(1) for key in upstream_state(PUBLISHED[really])}, path)
    message = rf"net.safetensors is a {TITLES[really]} checkpoint, but one of {TITLES[given]} is needed"
    with pytest.raises(WrongFamilyError, match=message) as error:
        convert(given, {path.name: path}, out)
    assert f"give it as family {really!r}" in str(error.value.remedy)
    assert list(out.iterdir()) == []


def test_a_missing_key_is_named(whole: State, refused: Callable[..., WrongKeysError]):
    error = refused({key: value for key, value in whole.items() if key != "image_encoder.neck.1.bias"})
    assert error.missing == ("vision_encoder.neck.layer_norm1.bias",)
    assert "1 key is missing: vision_encoder.neck.layer_norm1.bias" in error.message


def test_a_missing_key_that_sizes_are_read_from_is_named(whole: State, refused: Callable[..., WrongKeysError]):
    error = refused({key: value for key, value in whole.items() if key != "image_encoder.pos_embed"})
    assert error.missing == ("image_encoder.pos_embed",)


def test_an_unexpected_key_is_named(whole: State, refused: Callable[..., WrongKeysError]):
    error = refused({**whole, "image_encoder.adapter.weight": torch.ones(2)})
    assert error.unexpected == ("image_encoder.adapter.weight",)
    assert "1 key is not known: image_encoder.adapter.weight" in error.message


def test_two_keys_for_one_parameter_are_refused(whole: State, refused: Callable[..., WrongKeysError]):
    twin = whole["image_encoder.neck.0.weight"]
    assert refused({**whole, "vision_encoder.neck.conv1.weight": twin}).unexpected


@pytest.mark.parametrize(
    ("key", "shape", "text"),
    [
        ("image_encoder.blocks.1.norm1.weight", (33,), "[33] (expected [32])"),
        ("image_encoder.blocks.0.attn.qkv.weight", (95, 32), "[95, 32]"),
        ("image_encoder.patch_embed.proj.weight", (32, 3), "[32, 3] (expected 4 dimensions"),
        ("image_encoder.pos_embed", (1, 0, 0, 32), "none of them 0"),
        ("mask_decoder.mask_tokens.weight", (5, 32), "[4, 40] (expected [5, 40])"),
    ],
)
def test_a_wrong_shape_is_named(
    whole: State, refused: Callable[..., WrongKeysError], key: str, shape: tuple[int, ...], text: str
):
    error = refused({**whole, key: torch.zeros(shape)})
    assert key in error.shapes or error.missing  # of sizes that others follow, it is the others that do not fit
    assert text in error.message


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn, torch.complex64, torch.bool])
def test_numbers_that_mean_nothing_by_themselves_are_refused(
    tmp_path: Path, out: Path, whole: State, kind: torch.dtype
):
    torch.save({key: value.to(kind) for key, value in whole.items()}, tmp_path / "net.pth")
    name = str(kind).removeprefix("torch.")
    with pytest.raises(QuantisedError, match=rf"holds numbers of type {name}, where float32(.|\n)*not a quantised one"):
        convert("sam", {"net.pth": tmp_path / "net.pth"}, out)
    assert list(out.iterdir()) == []


def test_tensors_in_any_memory_are_written_as_the_numbers_they_are(tmp_path: Path, whole: State):
    flat = torch.cat([value.flatten() for value in whole.values()])
    ends = torch.tensor([value.numel() for value in whole.values()]).cumsum(0).tolist()
    views = [flat[end - value.numel() : end].view(value.shape) for end, value in zip(ends, whole.values(), strict=True)]
    turned = {key: value.mT.contiguous().mT if value.dim() > 1 else value for key, value in whole.items()}
    overlapping = {**whole, "image_encoder.neck.1.weight": flat[:32], "image_encoder.neck.1.bias": flat[16:48]}
    for name, state in {"views": dict(zip(whole, views, strict=True)), "turned": turned, "over": overlapping}.items():
        torch.save(state, tmp_path / "net.pth")
        (folder := tmp_path / name).mkdir()
        report = convert("sam", {"net.pth": tmp_path / "net.pth"}, folder)
        written = load_file(folder / "model.safetensors")
        for key, names in report.renamed.items():
            assert all(torch.equal(written[one], state[key]) for one in names), key


def test_sizes_that_describe_no_network_are_refused(tmp_path: Path, out: Path, whole: State):
    state = {**whole, "image_encoder.blocks.0.attn.rel_pos_h": torch.zeros(5, 64)}  # a head wider than the whole
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError):
        convert("sam", {"net.pth": tmp_path / "net.pth"}, out)
    assert list(out.iterdir()) == []


def test_a_network_of_no_known_family_is_refused(tmp_path: Path, out: Path):
    torch.save({"conv1.weight": torch.ones(2, 2)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="does not fit SAM"):
        convert("sam", {"net.pth": tmp_path / "net.pth"}, out)


def test_exactly_one_checkpoint_is_taken(tmp_path: Path, out: Path):
    for files in ({}, {"a.pth": tmp_path / "a.pth", "b.pth": tmp_path / "b.pth"}):
        with pytest.raises(CheckpointError, match="one checkpoint file"):
            convert("sam", files, out)


def test_an_unknown_family_is_refused(out: Path):
    with pytest.raises(UnknownNameError, match="mobile-sam"):
        convert("mobile-sam", {}, out)


@pytest.fixture
def ram_files(tmp_path: Path) -> dict[str, Path]:
    """A small RAM in upstream's layout, with its lists."""
    source = write_tagger(tmp_path / "source", "ram")
    tensors = load_file(source / "model.safetensors")
    torch.save({"model": upstream_layout("ram_swin_large_14m", ram.KEYS, tensors)}, tmp_path / "ram.pth")
    lists = {path.name: path for path in source.glob("*list*.txt")}
    return {"ram.pth": tmp_path / "ram.pth", **lists}


def test_a_missing_tag_list_is_named(ram_files: dict[str, Path], out: Path):
    ram_files.pop("ram_tag_list.txt")
    with pytest.raises(CheckpointError, match=r"ram_tag_list.txt or tag_list.txt is missing beside the checkpoint"):
        convert("ram", ram_files, out)


def test_a_tag_list_of_another_length_is_refused_before_weights_are_written(ram_files: dict[str, Path], out: Path):
    ram_files["ram_tag_list.txt"].write_text("\n".join(TAGS[1:]))
    with pytest.raises(CheckpointError, match=r"given: 8 tags in ram_tag_list.txt, but the network answers for 9"):
        convert("ram", ram_files, out)
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("threshold", ["nan", "inf", "1.5", "-0.1", "half"])
def test_a_threshold_that_is_no_share_is_named(ram_files: dict[str, Path], out: Path, threshold: str):
    ram_files["ram_tag_list_threshold.txt"].write_text("\n".join(["0.5"] * 3 + [threshold] + ["0.5"] * 5))
    words = rf"^ram_tag_list_threshold.txt: threshold 4 is '{threshold}', where a share from 0 to 1(.|\n)*as it is$"
    with pytest.raises(CheckpointError, match=words):
        convert("ram", ram_files, out)
    assert not (out / "model.safetensors").exists()


@pytest.fixture
def detector_files(tmp_path: Path) -> dict[str, Path]:
    """A small GroundingDINO in upstream's layout, without its tokenizer."""
    network = small_groundingdino(len(TOKENIZER))
    names = {key: value for key, value in hub_weights(network).items() if ".swin.layernorm." not in key}
    torch.save(upstream_layout("groundingdino_swint_ogc", groundingdino.KEYS, names), tmp_path / "net.pth")
    return {"net.pth": tmp_path / "net.pth"}


def test_a_detector_needs_its_tokenizer(detector_files: dict[str, Path], out: Path):
    with pytest.raises(CheckpointError, match=r"tokenizer.json or vocab.txt or vocab.json is missing beside"):
        convert("groundingdino", detector_files, out)
    assert list(out.iterdir()) == []


def _json(words: list[str]) -> bytes:
    return detector_tokenizer(words)._tokenizer.to_str().encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04cposix\nsystem\n.", "the tokenizer in the files given cannot be read"),
        (b"{}", "the tokenizer in the files given cannot be read"),
        (b'{"version": "1.0", "model": {"type": "Other"}}', "the tokenizer in the files given cannot be read"),
        (_json(["star", "ring"]), "the tokenizer in the files given has 1104 tokens, its network knows 1103"),
        (_json(["star"]).replace(b'".":1012', b'"!":1012'), "GroundingDINO needs"),
    ],
    ids=["a pickle", "empty", "of no known kind", "larger than the network's", "of other separators"],
)
def test_a_detectors_tokenizer_must_be_its_own(
    detector_files: dict[str, Path], tmp_path: Path, out: Path, content: bytes, words: str
):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as refused:
        convert("groundingdino", {**detector_files, "tokenizer.json": tmp_path / "tokenizer.json"}, out)
    assert "take the tokenizer files that belong to the checkpoint" in str(refused.value.remedy)
    assert str(out) not in str(refused.value)


def test_keys_of_nothing_known_are_not_recognised():
    assert recognise(["layer1.0.conv1.weight", "fc.weight"]) is None
