"""Folders of weights that ask for code, or for numbers of another library: refused by name, whoever sits there."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_captioners import blip2_folder, qwen_folder

from etl.errors import ConfigurationError
from etl.models.checkpoints import convert, folder_files
from etl.models.checkpoints.errors import CheckpointError
from etl.models.families import FAMILIES, open_network
from etl.models.folders import check_folder

OWN_CODE = {"AutoModel": "own.Own", "AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}
ASKS = {
    "code of its own": ({"auto_map": OWN_CODE}, r"asks for Python code of its own \('auto_map'\)"),
    "a kernel": ({"attn_implementation": "own/kernel"}, r"asks for code from elsewhere .*own/kernel"),
    "a quantiser": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "is that of quantised weights"),
}


def change(path: Path, **more: Any) -> None:
    """Further keys of a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **more}))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the folders' code would make; whoever is asked says yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 99))
    return tmp_path / "marker"


def with_code(folder: Path, marker: Path) -> Path:
    code = f"open({str(marker)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Own\n"
    (folder / "own.py").write_text(code)
    return folder


@pytest.mark.parametrize("family", ["groundingdino", "sam", "blip2", "clip-text", "ram"])
@pytest.mark.parametrize("asks", ASKS)
def test_a_folder_of_weights_is_refused(weights: dict[str, Path], tmp_path: Path, marker: Path, family: str, asks: str):
    folder = with_code(Path(shutil.copytree(weights[family], tmp_path / "net")), marker)
    more, words = ASKS[asks]
    change(folder / "config.json", **more)
    with pytest.raises(ConfigurationError, match=rf"net/config.json {words}(.|\n)*without code of its own"):
        open_network(family, FAMILIES[family].task, folder, "cpu", "float32")
    assert not marker.exists()


@pytest.mark.parametrize("family", ["groundingdino", "blip2", "clip-text"])
def test_a_tokenizer_with_code_of_its_own_is_refused_and_nobody_is_asked(
    weights: dict[str, Path], tmp_path: Path, marker: Path, family: str, capsys: pytest.CaptureFixture[str]
):
    folder = with_code(Path(shutil.copytree(weights[family], tmp_path / "net")), marker)
    change(folder / "tokenizer_config.json", tokenizer_class="Own", auto_map=OWN_CODE)
    with pytest.raises(ConfigurationError, match=r"net/tokenizer_config.json asks for Python code of its own"):
        open_network(family, FAMILIES[family].task, folder, "cpu", "float32")
    assert not marker.exists()
    assert "[y/N]" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change_of", "words"),
    [
        ({"tokenizer_class": "BlipTextModel"}, "cannot be read|names BlipTextModel"),
        ({"added_tokens_decoder": 3}, "cannot be read"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused(weights: dict[str, Path], tmp_path: Path, change_of: dict, words: str):
    folder = Path(shutil.copytree(weights["clip-text"], tmp_path / "net"))
    change(folder / "tokenizer_config.json", **change_of)
    with pytest.raises(ConfigurationError, match=words) as refused:
        open_network("clip-text", "embedder", folder, "cpu", "float32")
    assert "take the tokenizer files that belong to the checkpoint" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("family", "make"), [("blip2", lambda folder: blip2_folder(folder, "opt")), ("qwen-vl", qwen_folder)]
)
@pytest.mark.parametrize("asks", ASKS)
def test_a_published_folder_is_refused_before_anything_is_kept(
    tmp_path: Path, marker: Path, family: str, make: Any, asks: str
):
    folder = with_code(make(tmp_path / "net"), marker)
    more, words = ASKS[asks]
    part = json.loads((folder / "config.json").read_text())["vision_config"]
    change(folder / "config.json", vision_config={**part, **more})  # parts have configurations of their own
    (out := tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match=rf"net/config.json {words}"):
        convert(family, folder_files(folder), out)
    assert list(out.iterdir()) == []
    assert not marker.exists()


def test_a_published_folder_whose_tokenizer_has_code_is_refused(tmp_path: Path, marker: Path):
    folder = with_code(blip2_folder(tmp_path / "net", "t5"), marker)
    change(folder / "tokenizer_config.json", auto_map=OWN_CODE)
    (out := tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json asks for Python code of its own"):
        convert("blip2", folder_files(folder), out)
    assert not marker.exists()


def test_what_transformers_itself_writes_is_taken(weights: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(weights["clip-text"], tmp_path / "net"))
    change(folder / "config.json", attn_implementation="sdpa", quantization_config=None, auto_map={})
    assert check_folder(folder, "clip-text")["attn_implementation"] == "sdpa"
