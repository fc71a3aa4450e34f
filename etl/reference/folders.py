"""Folders of upstream's files, as the reference engines read them. No import of torch here.

A folder holds one ``.pth``; for GroundingDINO its text encoder's ``config.json`` and tokenizer, in a folder ``text``
or beside; for RAM, RAM++ and Tag2Text the lists of tags and thresholds; all under upstream's names. ``sizes.json``
describes a network of other sizes than upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from etl.errors import ConfigurationError

TEXT = "text"
SIZES = "sizes.json"
_RAM_LISTS = (("ram_tag_list.txt",), ("ram_tag_list_threshold.txt",))
NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sam": (),
    "sam-hq": (),
    "groundingdino": (("config.json",), ("tokenizer.json", "vocab.txt")),
    "ram": _RAM_LISTS,
    "ram-plus": _RAM_LISTS,
    "tag2text": (("tag2text_ori_tag_list.txt",),),
}


def check_upstream_folder(folder: Path, family: str) -> Path:
    """The checkpoint of a folder of upstream's files.

    Raises:
        ConfigurationError: The folder is missing, has not exactly one ``.pth``, or lacks what belongs to it.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"the weights folder {folder} does not exist", remedy="correct 'weights' in the catalog"
        )
    found = sorted(folder.glob("*.pth"))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise ConfigurationError(
            f"{folder}: the reference engine of {family} reads one .pth, but there are {len(found)}: {listed}",
            remedy="give a folder with upstream's checkpoint, as its authors publish it, and what belongs to it",
        )
    beside = text_folder(folder) if family == "groundingdino" else folder
    for names in NEEDED[family]:
        if not any((beside / name).is_file() for name in names):
            raise ConfigurationError(
                f"{beside}: the reference engine of {family} needs {' or '.join(names)}, which is not there",
                remedy="put upstream's file of that name there"
                if family != "groundingdino"
                else f"put config.json and the tokenizer files of bert-base-uncased there, or into a folder {TEXT!r}",
            )
    return found[0]


def text_folder(folder: Path) -> Path:
    """Where a detector's text encoder and tokenizer are described."""
    return folder / TEXT if (folder / TEXT).is_dir() else folder
