"""Writing into catalog files: one number is changed, and every other character of a person's file stays."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings.catalog import SHIPPED, ModelEntry, parse_entry, read_entry

_KEY, _BESIDE = "batch_sizes", "batch_size"
_MODE = 0o644  # of a new file; one that exists keeps its own


@dataclass(frozen=True)
class Written:
    """A catalog file that was written, and whether it was copied from the shipped catalog first."""

    file: Path
    copied: bool


def write_batch_size(folder: Path, model: str, kind: str, size: int) -> Written:
    """Set ``batch_sizes`` of a model for one kind of device in a project's catalog.

    A shipped model's file is copied there first, with its comments: from then on it goes before the shipped one.

    Args:
        folder: The project's catalog folder.
        model: Name of the model.
        kind: Kind of device, as ``etl.stages.device.device_name`` tells it.
        size: Images per batch.

    Raises:
        UnknownNameError: Neither the project nor the shipped catalog has the model.
        ConfigurationError: The file cannot be written, or is laid out in a way that cannot be edited safely.
    """
    by_hand = f"write '{_KEY}: {{{json.dumps(kind)}: {size}}}' into the model's file yourself"
    own = _file_of(folder, model)
    origin = own or _file_of(SHIPPED, model)
    if origin is None:
        raise UnknownNameError("model", model, [], remedy="see 'groundlake models list'")
    file = own or folder / "models" / f"{model}.yaml"
    if own is None and file.exists():
        raise ConfigurationError(f"{file} is there already and defines another model", remedy="rename that file")
    text = with_batch_size(origin.read_bytes().decode(), kind, size)
    if text is None or parse_entry(text, file, ModelEntry).batch_sizes.get(kind) != size:
        raise ConfigurationError(f"{origin} is laid out in a way that cannot be edited safely", remedy=by_hand)
    try:
        _replace(file.resolve(), text.encode())
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error}", remedy=by_hand) from error
    return Written(file, copied=own is None)


def with_batch_size(text: str, kind: str, size: int) -> str | None:
    """The text of a model's file with one batch size set; None where no edit of it would mean just that.

    >>> print(with_batch_size("stage: tag  # mine", "cpu", 4))
    stage: tag  # mine
    batch_sizes: {"cpu": 4}
    <BLANKLINE>
    """
    content = yaml.safe_load(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(content, dict) or not isinstance(root, yaml.MappingNode):
        return None
    new = _edited(text, root, kind, size)
    wanted = {**content, _KEY: {**content.get(_KEY, {}), kind: size}}
    try:
        return new if yaml.safe_load(new) == wanted else None
    except yaml.YAMLError:
        return None


def _edited(text: str, root: yaml.MappingNode, kind: str, size: int) -> str:
    pair = f"{json.dumps(kind, ensure_ascii=False)}: {size}"
    sizes = _value(root, _KEY)
    if sizes is None:
        beside = _value(root, _BESIDE)
        return _line_after(text, beside, " " * root.start_mark.column + f"{_KEY}: {{{pair}}}")
    if not isinstance(sizes, yaml.MappingNode) or not sizes.value:
        return _spliced(text, sizes.start_mark.index, sizes.end_mark.index, f"{{{pair}}}")
    known = _value(sizes, kind)
    if known is not None:
        return _spliced(text, known.start_mark.index, known.end_mark.index, str(size))
    last = sizes.value[-1][1]
    if sizes.flow_style:
        return _spliced(text, last.end_mark.index, last.end_mark.index, f", {pair}")
    return _line_after(text, last, " " * sizes.start_mark.column + pair)


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    """What a mapping has under a key; the last one counts, as for whoever loads it."""
    found = [value for name, value in mapping.value if isinstance(name, yaml.ScalarNode) and name.value == key]
    return found[-1] if found else None


def _spliced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _line_after(text: str, node: yaml.Node | None, line: str) -> str:
    """The text with a line after the one on which a node ends, or at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    cut = (text.find("\n", node.end_mark.index) + 1 if node is not None else 0) or len(text)
    gap = "" if text[:cut].endswith("\n") else newline
    return text[:cut] + gap + line + newline + text[cut:]


def _replace(file: Path, data: bytes) -> None:
    """Write a file so that readers see the old or the new one, whenever the process or the machine dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode & 0o777 if file.exists() else _MODE
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.chmod(mode)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _file_of(folder: Path, model: str) -> Path | None:
    """The file of a catalog folder that defines a model; of several the one that ``load_catalog`` takes."""
    files = sorted((folder / "models").glob("*.yaml"))
    found = [file for file in files if read_entry(file, ModelEntry).name == model]
    return found[-1] if found else None
