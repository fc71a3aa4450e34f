"""From files of a checkpoint to weights in the model store: checked, converted once, and only the converted kept."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.models.folders import check_folder
from etl.models.store import ModelStore, combined_digest
from etl.models.weights.given import check_digests, check_recorded, match_files
from etl.models.weights.partial import Progress, check_room, sha256_of
from etl.settings import WeightsEntry

if TYPE_CHECKING:
    from etl.models.checkpoints import Report

# Published in the very layout that stages read: the converter checks and links them.
LINKED = ("blip2", "qwen-vl")


@dataclass(frozen=True)
class Added:
    """Weights that are in the store now.

    Attributes:
        digest: Of what stages will read.
        bytes: Its length.
        sources: sha256 of the files it was made from.
        report: What became of the checkpoint's keys: ``renamed``, ``dropped`` by reason, ``missing``, ``unexpected``.
        earlier: Digest of the conversion that the store keeps instead, when this one differs from it.
    """

    digest: str
    bytes: int
    sources: Mapping[str, str]
    report: Mapping[str, Any]
    earlier: str | None = None


def add(models: ModelStore, entry: WeightsEntry, given: Sequence[Path], scratch: Path, progress: Progress) -> Added:
    """Put a checkpoint into the model store; adding the same again mends its files.

    Args:
        models: The store.
        entry: The checkpoint.
        given: Its files under upstream's names, or one folder that holds them.
        scratch: Folder for the conversion.
        progress: Told now and then how far it is.

    Raises:
        WrongFilesError: Files are missing, or others were given.
        WrongSizeError: A file is cut short.
        WrongDigestError: A file is not the one pinned, or not the one added first.
        NoRoomError: The scratch disk has no room for the conversion.
        DataError: The converter refuses them (damaged, carrying code, of another family): it says which and why.
    """
    files = match_files(entry, given)
    digests = check_digests(entry, files, models.stored(entry.network), progress)
    return store(models, entry, files, digests, scratch)


def store(
    models: ModelStore, entry: WeightsEntry, files: Mapping[str, Path], digests: Mapping[str, str], scratch: Path
) -> Added:
    """Convert files that were checked and put the result into the model store; raises as ``add``."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-", dir=scratch) as name:
        out = Path(name) / entry.name
        out.mkdir()
        check_room(scratch, conversion_room(entry, files), f"converting {entry.name}")
        report = dataclasses.asdict(_convert(entry.family, files, out))
        check_folder(out, entry.family)
        made = _digests(out, {path.resolve(): digests[name] for name, path in files.items()})
        size = sum((out / name).stat().st_size for name in made)
        kept = models.add(entry.network, out, files=made, sources=digests, report=report)
        found = combined_digest(made)
    # Of two adders the first is kept: what the index says now decides, not what it said before.
    check_recorded(digests, models.stored(entry.network))
    return Added(found, size, digests, report, earlier=kept if kept != found else None)


def conversion_room(entry: WeightsEntry, files: Mapping[str, Path]) -> int:
    """Bytes that converting these files may take: as many as they have, where they are not only linked."""
    return 0 if entry.family in LINKED else sum(path.stat().st_size for path in files.values() if path.is_file())


def _digests(folder: Path, known: Mapping[Path, str]) -> dict[str, str]:
    """sha256 of the files of a folder; a link to one that was just read is not read again."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = known.get(path.resolve()) or sha256_of(path, name, lambda *_: None)
    return found


def _convert(family: str, files: Mapping[str, Path], out: Path) -> Report:
    from etl.models.checkpoints import convert  # torch: not for those who only download or verify

    return convert(family, files, out)
