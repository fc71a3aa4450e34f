"""Folders of upstream's files: what must be in one."""

from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.reference.folders import check_upstream_folder


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("sam", ["sam_vit_b.pth"]),
        ("groundingdino", ["dino.pth", "config.json", "vocab.txt"]),
        ("groundingdino", ["dino.pth", "text/config.json", "text/tokenizer.json"]),
        ("ram", ["ram.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt"]),
        ("tag2text", ["tag2text.pth", "tag2text_ori_tag_list.txt"]),
    ],
)
def test_a_folder_with_all_that_upstream_reads_is_taken(tmp_path: Path, family: str, names: list[str]):
    assert check_upstream_folder(write(tmp_path, *names), family).name == names[0]


@pytest.mark.parametrize(
    ("family", "names", "words"),
    [
        ("sam", ["model.safetensors", "config.json"], "reads one .pth, but there are 0: none"),
        ("sam", ["a.pth", "b.pth"], r"there are 2: a.pth, b.pth"),
        ("groundingdino", ["a.pth", "config.json"], "needs tokenizer.json or vocab.txt"),
        ("groundingdino", ["a.pth", "text/vocab.txt"], "text: the reference engine of groundingdino needs config.json"),
        ("ram", ["a.pth", "ram_tag_list.txt"], "needs ram_tag_list_threshold.txt"),
        ("tag2text", ["a.pth"], "needs tag2text_ori_tag_list.txt"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_by_its_name(
    tmp_path: Path, family: str, names: list[str], words: str
):
    with pytest.raises(ConfigurationError, match=words):
        check_upstream_folder(write(tmp_path, *names), family)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        check_upstream_folder(tmp_path / "none", "sam")
