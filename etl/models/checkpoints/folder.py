"""What every conversion begins and ends with: the given files, and the folder that stages read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from etl.models.checkpoints.errors import CheckpointError, WrongFamilyError
from etl.models.checkpoints.keys import State
from etl.models.checkpoints.read import read_state
from etl.models.checkpoints.signatures import recognise

CHECKPOINTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
MADE = ("config.json", "preprocessor_config.json", "model.safetensors")  # by us, from the checkpoint


def open_checkpoint(files: Mapping[str, Path], family: str) -> tuple[Path, State]:
    """The one checkpoint among files, and its tensors.

    Args:
        files: Paths by upstream's names.
        family: What it must be.

    Raises:
        CheckpointError: There is not exactly one, or it cannot be read (see ``read_state``).
        WrongFamilyError: It is of another family.
    """
    found = [path for name, path in files.items() if name.endswith(CHECKPOINTS)]
    if len(found) != 1:
        listed = ", ".join(files) or "nothing"
        raise CheckpointError(
            f"one checkpoint file ({', '.join(CHECKPOINTS)}) is needed, but {len(found)} were given among: {listed}",
            remedy="give the checkpoint and the files that belong to it, nothing else",
        )
    state = read_state(found[0])
    check_family(found[0], family, state)
    return found[0], state


def check_family(path: Path, family: str, state: Mapping[str, Any]) -> None:
    """Raise WrongFamilyError when keys are those of another family."""
    really = recognise(state)
    if really is not None and really != family:
        raise WrongFamilyError(path, family, really)


def copy_others(files: Mapping[str, Path], out: Path, *, needed: tuple[tuple[str, ...], ...] = ()) -> None:
    """Copy what belongs to a checkpoint (tag lists, tokenizer files) into the folder under the same names.

    Args:
        files: Paths by upstream's names.
        out: The folder.
        needed: For each thing that must be there the names that it may have.

    Raises:
        CheckpointError: One is missing.
    """
    others = {name: path for name, path in files.items() if not name.endswith(CHECKPOINTS) and name not in MADE}
    for names in needed:
        if not any(name in others for name in names):
            raise CheckpointError(
                f"{' or '.join(names)} is missing beside the checkpoint",
                remedy="give upstream's file of that name together with the checkpoint",
            )
    for name, path in others.items():
        target = out / Path(name).name
        shutil.copyfile(path, target)


def write_folder(
    out: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], preprocessor: Mapping[str, Any] | None
) -> None:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``.

    Tensors are written one after the other from where they are; only what safetensors cannot write as it is (twins that
    share memory, other strides) is copied in memory first.
    """
    _write_json(out / "config.json", config)
    if preprocessor is not None:
        _write_json(out / "preprocessor_config.json", preprocessor)
    save_file(_apart(tensors), out / "model.safetensors", metadata={"format": "pt"})


def _apart(tensors: Mapping[str, torch.Tensor]) -> State:
    """The tensors in plain order of their numbers, those that share memory with one before them copied."""
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    end = 0
    for name, tensor in sorted(plain.items(), key=lambda item: item[1].data_ptr()):
        if tensor.data_ptr() < end:
            plain[name] = tensor.clone()
        end = max(end, tensor.data_ptr() + tensor.nbytes)
    return plain


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
