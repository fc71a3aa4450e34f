"""Reading the tensors of a checkpoint, and nothing else of it: no code that a file may carry is ever run.

Tensors are views of the file, which is mapped into memory: only those that are copied later are read from disk.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from etl.errors import ConfigurationError
from etl.models.checkpoints.errors import CodeInCheckpointError, DamagedCheckpointError, NotACheckpointError

WRAPPERS = ("model", "state_dict")  # what trainers put the state dict under, beside optimizer and epoch
PARALLEL = "module."  # what torch's parallel wrappers put before every key
LFS = b"version https://git-lfs"
# Tensors may share memory (tied weights, a network's twin heads), but not so much that a small file fills a disk.
SHARED = 4
# What torch's unpickler says when a file asks for more than tensors, in the words of torch 2.6 to 2.15.
_NAMED = re.compile(r"GLOBAL ([\w.]+)")
_CODE = re.compile(r"GLOBAL|nsupported|Trying to|Can only|not allowed")
_BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a ``.pth``, ``.bin`` or ``.safetensors`` file, by its keys.

    A state dict under ``model`` or ``state_dict`` is taken out of its wrapper; ``module.`` is cut from the front of
    keys. What kind of file it is decides its content, not its name.

    Raises:
        ConfigurationError: The file cannot be opened.
        CodeInCheckpointError: Its pickle names something that loading would call. It was not called.
        DamagedCheckpointError: It is empty, cut short or broken.
        NotACheckpointError: It is another kind of file, or holds something else than tensors.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", remedy="correct the path") from error
    if not begin:
        raise DamagedCheckpointError(path, "empty")
    if begin.startswith(LFS):
        raise NotACheckpointError(f"{path} is a Git LFS pointer, not the file", remedy="fetch it with 'git lfs pull'")
    if begin.startswith(b"PK"):
        _check_zip(path)
        return _tensors(path, _unwrapped(path, _unpickled(path, mapped=True)))
    if begin[8:9] == b"{" or path.suffix == ".safetensors":
        return _tensors(path, _safetensors(path))
    if begin.startswith(b"\x80"):  # a pickle, as torch wrote before 1.6
        return _tensors(path, _unwrapped(path, _unpickled(path, mapped=False)))
    raise NotACheckpointError(
        f"{path} is no checkpoint: it begins with {begin[:12]!r}", remedy="give a .pth, .bin or .safetensors file"
    )


def _check_zip(path: Path) -> None:
    """Refuse an archive that is cut short (its directory is at its end) or that torch did not write.

    torch never compresses. Of a compressed archive a mapped file would give the compressed bytes for numbers, and a few
    of its bytes could become any amount of memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
        # NotImplementedError: a damaged byte may name a version of zip that there is not.
        raise DamagedCheckpointError(path, f"cut short or damaged: {error}") from error
    names = [one.filename for one in held]
    if any(name.endswith("/constants.pkl") for name in names):
        raise CodeInCheckpointError(path, "a program of torch.jit")
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        raise NotACheckpointError(
            f"{path} is a zip archive but no checkpoint of torch: it holds {', '.join(names[:3]) or 'nothing'}",
            remedy="unpack it, and give the .pth or .safetensors file",
        )
    packed = [one.filename for one in held if one.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise NotACheckpointError(
            f"{path} was packed again: {packed[0]} in it is compressed, which torch never does",
            remedy="take the file as its authors publish it",
        )


def _unpickled(path: Path, *, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except _BROKEN as error:
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and _CODE.search(text):
            named = _NAMED.search(text)
            raise CodeInCheckpointError(path, named[1] if named else "more than tensors") from error
        detail = text.splitlines()[0][:200] if text else type(error).__name__
        raise DamagedCheckpointError(path, f"cut short or damaged: {detail}") from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, *_BROKEN) as error:
        raise DamagedCheckpointError(path, f"cut short, or its header is damaged: {error}") from error


def _unwrapped(path: Path, content: Any) -> Mapping[Any, Any]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content:
        held = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise NotACheckpointError(
            f"{path} holds {held}, where a state dict was expected", remedy="give the checkpoint of the network"
        )
    return content


def _tensors(path: Path, content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    size, total = path.stat().st_size, 0
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise NotACheckpointError(
                f"{path}: {key!r} is a {type(value).__name__}, where a tensor was expected",
                remedy="give the state dict of the network: names and tensors only",
            )
        if value.nbytes > size:  # a few bytes that pass for gigabytes: all strides are 0
            raise DamagedCheckpointError(path, f"shorter than its tensor {key!r}, which has {value.nbytes:,} bytes")
        total += value.nbytes
        name = key.removeprefix(PARALLEL)
        if name in state:
            raise NotACheckpointError(f"{path} has {name!r} twice, once as {PARALLEL}{name}")
        state[name] = value.detach()
    if total > SHARED * size:
        raise DamagedCheckpointError(path, f"much shorter than its tensors, which have {total:,} bytes together")
    return state
