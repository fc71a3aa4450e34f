"""Files that somebody already has: which of them are those of a checkpoint, and whether they are the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from etl.models.store import Stored
from etl.models.weights.errors import WrongDigestError, WrongFilesError, WrongSizeError
from etl.models.weights.partial import Progress, sha256_of
from etl.settings import WeightsEntry

_OURS = "take the file from {url}, or add these under a catalog/weights entry of their own"
_CHANGED = "the lake keeps what was added first: add these under a catalog/weights entry of their own"


def match_files(entry: WeightsEntry, given: Sequence[Path]) -> dict[str, Path]:
    """The files of a checkpoint among those given, by upstream's names.

    Args:
        entry: The checkpoint.
        given: Files of those names, or one folder that holds them (others in it do not matter).

    Raises:
        WrongFilesError: One is missing, given twice, or no part of the checkpoint.
    """
    for path in given:
        if not path.exists():
            raise WrongFilesError(f"{path} does not exist", remedy="correct the path")
    is_folder = len(given) == 1 and given[0].is_dir()
    found = _in_folder(entry, given[0]) if is_folder else _by_name(entry, given)
    missing = [file for file in entry.files if file.name not in found]
    if missing:
        where = "".join(f"\n     {file.name}: {entry.url(file)}" for file in missing)
        raise WrongFilesError(
            f"{entry.name} needs {', '.join(file.name for file in missing)} too",
            remedy=f"give all its files at once; upstream has the missing ones here:{where}",
        )
    return found


def _in_folder(entry: WeightsEntry, folder: Path) -> dict[str, Path]:
    found = {}
    for file in entry.files:
        for path in (folder / file.name, folder / Path(file.name).name):
            if path.is_file():
                found[file.name] = path
                break
    return found


def _by_name(entry: WeightsEntry, given: Sequence[Path]) -> dict[str, Path]:
    names = {Path(file.name).name: file.name for file in entry.files}
    found: dict[str, Path] = {}
    for path in given:
        name = names.get(path.name)
        if name is None or not path.is_file():
            raise WrongFilesError(
                f"{path} is no file of {entry.name}; its files are {', '.join(names)}",
                remedy="give those under these names, or one folder that holds them",
            )
        if name in found:
            raise WrongFilesError(f"{found[name]} and {path} are both {name}", remedy="give it once")
        found[name] = path
    return found


def check_digests(
    entry: WeightsEntry, files: Mapping[str, Path], stored: Stored | None, progress: Progress
) -> dict[str, str]:
    """sha256 of the files, when each is the one the catalog pins and the one that was added first.

    Raises:
        WrongSizeError: A file is cut short, or of another length than the catalog says.
        WrongDigestError: A file is another one.
    """
    digests = {}
    for file in entry.files:
        path = files[file.name]
        size = path.stat().st_size
        remedy = _OURS.format(url=entry.url(file))
        if file.bytes is not None and size != file.bytes:
            raise WrongSizeError(str(path), size, file.bytes, remedy=remedy)
        digests[file.name] = found = sha256_of(path, file.name, progress)
        if file.sha256 not in (None, found):
            raise WrongDigestError(str(path), found, str(file.sha256), recorded=False, remedy=remedy)
    check_recorded(digests, stored)
    return digests


def check_recorded(digests: Mapping[str, str], stored: Stored | None) -> None:
    """Raise WrongDigestError when weights under this name were made from other files."""
    if stored is None:
        return
    for name in sorted(digests.keys() | stored.sources.keys()):
        found, expected = digests.get(name), stored.sources.get(name)
        if found != expected:
            raise WrongDigestError(name, found or "(none)", expected or "(none)", recorded=True, remedy=_CHANGED)
