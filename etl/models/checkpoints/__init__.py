"""Upstream's checkpoints, converted once to the folders that stages read.

``convert`` takes the files of one checkpoint by upstream's names and writes ``config.json``, ``model.safetensors`` with
what inference needs, ``preprocessor_config.json``, tag lists and tokenizer files. Every key of the checkpoint is
accounted for; no code in it is ever run; its numbers are copied, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from etl.errors import ConfigurationError, UnknownNameError
from etl.models.checkpoints.errors import CheckpointError
from etl.models.checkpoints.keys import Report
from etl.models.checkpoints.signatures import recognise
from etl.models.checkpoints.tokenizer import check_tokenizer

__all__ = ["Report", "convert", "folder_files", "recognise"]

_MODULES = {
    "ram": "ram",
    "ram-plus": "ram_plus",
    "tag2text": "tag2text",
    "groundingdino": "groundingdino",
    "sam": "sam",
    "sam-hq": "sam_hq",
    "clip-text": "clip_text",
    "blip2": "blip2",
    "qwen-vl": "qwen_vl",
}


def convert(family: str, files: Mapping[str, Path], out: Path) -> Report:
    """Write the folder of a checkpoint.

    Args:
        family: What the checkpoint is.
        files: Its files by upstream's names: one checkpoint, or the files of a Hugging Face folder.
        out: An empty folder.

    Returns:
        What became of every key.

    Raises:
        CheckpointError: The files are damaged, carry code, are of another family, or are not whole; or a tag list or a
            tokenizer does not fit its network.
        ConfigurationError: A file cannot be opened.
        UnknownNameError: There is no such family.
    """
    module = _MODULES.get(family)
    if module is None:
        raise UnknownNameError("family of networks", family, list(_MODULES))
    try:
        report: Report = import_module(f"{__name__}.{module}").convert(files, out)
        check_tokenizer(family, out)
    except ConfigurationError as error:
        if str(out) not in error.message:
            raise
        # What a stage would say of the folder that was just written is said of the files it was made of.
        message = error.message.replace(f"{out}/", "").replace(str(out), "the files given")
        raise CheckpointError(message, remedy=error.remedy) from error
    return report


def folder_files(folder: Path) -> dict[str, Path]:
    """The files of a folder by their relative names."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
