"""What every conversion does, whatever the family: open, check, map, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from etl.models.checkpoints.errors import TITLES, NotACheckpointError
from etl.models.checkpoints.folder import copy_others, open_checkpoint, write_folder
from etl.models.checkpoints.keys import KeyMap, Report, Shape, Sizes, map_keys

# What building a network of sizes that do not go together can raise.
_IMPOSSIBLE = (ValueError, TypeError, ArithmeticError, RuntimeError, LookupError, AttributeError, StrictDataclassError)


@dataclass(frozen=True)
class Plan:
    """What a checkpoint becomes.

    Attributes:
        config: ``config.json``.
        wanted: Names and shapes of the parameters of the network that it describes.
        keys: How the checkpoint's keys become those.
        preprocessor: ``preprocessor_config.json``, or None where no pictures are seen.
    """

    config: Mapping[str, Any]
    wanted: Mapping[str, Shape]
    keys: KeyMap
    preprocessor: Mapping[str, Any] | None


def convert_by(
    plan: Callable[[Sizes], Plan],
    family: str,
    files: Mapping[str, Path],
    out: Path,
    *,
    needed: tuple[tuple[str, ...], ...] = (),
    check: Callable[[Path, Sizes], object] | None = None,
) -> Report:
    """Write the folder of a checkpoint.

    Args:
        plan: From the shapes of a checkpoint of the family to what it becomes.
        family: What the checkpoint must be.
        files: The checkpoint and what belongs to it, by upstream's names.
        out: The folder.
        needed: What must be there beside the checkpoint: for each thing the names that it may have.
        check: Looks whether the copied files fit the sizes of the network; raises when they do not.

    Raises:
        CheckpointError: The checkpoint is damaged, of another family, or not whole; or something beside it is missing.
    """
    path, state = open_checkpoint(files, family)
    sizes = Sizes(path, family, state)
    with possible(path, family):
        planned = plan(sizes)
    tensors, report = map_keys(path, family, state, planned.keys, planned.wanted)
    copy_others(files, out, needed=needed)
    if check is not None:
        check(out, sizes)
    write_folder(out, planned.config, tensors, planned.preprocessor)
    return report


@contextmanager
def possible(path: Path, family: str) -> Iterator[None]:
    """Raise NotACheckpointError when the sizes in ``path`` describe no network at all."""
    try:
        yield
    except _IMPOSSIBLE as error:
        raise NotACheckpointError(
            f"{path}: its sizes do not describe {TITLES[family]}: {error}",
            remedy="give the checkpoint as its authors publish it",
        ) from error
