"""Built manifests are copies: which of them hold pictures that were taken down, and their removal from the lake.

A manifest names its images somewhere: in the names of its files (which its listing gives), or in its text files.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import RetryableError
from etl.lake.ids import LENGTH
from etl.lake.lake import Lake
from etl.storage import LocalStore

FOLDER, LISTING, LOCK = "manifests", "files.sha256", "manifest.lock.json"
LEAVING = ".taken-down-"  # a folder on its way out: no reader takes it for a manifest
_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{%d}(?![0-9a-f])" % LENGTH)
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Holder:
    """A built manifest version that holds pictures to be taken down.

    Attributes:
        name: Its name.
        version: Its version.
        folder: Where it lies.
        inside: Whether that is in the lake, which is ours to clean.
        spec: What it was built from.
        images: The pictures.
    """

    name: str
    version: str
    folder: Path
    inside: bool
    spec: Mapping[str, Any]
    images: frozenset[str]


def holders(lake: Lake, images: Collection[str]) -> list[Holder]:
    """Every built manifest version, in the lake or elsewhere on this machine, that holds one of ``images``.

    Raises:
        RetryableError: A folder could not be read.
    """
    wanted = {image.encode() for image in images}
    found = []
    for folder, inside in _folders(lake) if wanted else ():
        try:
            held = {image.decode() for image in _ids(folder, wanted)}
            spec = json.loads((folder / LOCK).read_bytes())["spec"] if held else {}
        except (OSError, ValueError, KeyError) as error:
            if not folder.is_dir():
                continue  # removed by another pass
            raise RetryableError(
                f"the manifest {folder} cannot be searched: {error}", remedy="mend or remove that folder, run it again"
            ) from error
        if held:
            found.append(Holder(folder.parent.name, folder.name, folder, inside, spec, frozenset(held)))
    return found


def remove(holder: Holder) -> None:
    """Remove a manifest version from the lake: under another name first, so that nobody reads half of it.

    Raises:
        RetryableError: The disk failed.
    """
    leaving = holder.folder.parent / f"{LEAVING}{uuid.uuid4().hex[:12]}"
    try:
        holder.folder.rename(leaving)
        shutil.rmtree(leaving)
    except FileNotFoundError:
        return  # another pass was first
    except OSError as error:
        raise RetryableError(
            f"the manifest {holder.folder} cannot be removed: {error}", remedy="mend the cause and run it again"
        ) from error


def remove_leavings(lake: Lake) -> None:
    """Remove what a killed pass left under another name."""
    if isinstance(lake.store, LocalStore):
        for folder in (lake.store.root / FOLDER).glob(f"*/{LEAVING}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _folders(lake: Lake) -> Iterator[tuple[Path, bool]]:
    """Folders of manifest versions: all that lie in the lake, registered or not, then those built elsewhere."""
    if isinstance(lake.store, LocalStore):
        inside = (lake.store.root / FOLDER).glob(f"*/*/{LOCK}")
        yield from ((lock.parent, True) for lock in sorted(inside) if not lock.parent.name.startswith("."))
    elsewhere = {
        Path(row["path"])
        for batch in lake.table("manifests").to_pyarrow_dataset().to_batches(columns=["path"])
        for row in batch.to_pylist()
    }
    yield from ((path, False) for path in sorted(elsewhere) if path.is_absolute() and (path / LOCK).is_file())


def _ids(folder: Path, wanted: set[bytes]) -> set[bytes]:
    names = b"\n".join(line.partition(b"  ")[2] for line in (folder / LISTING).read_bytes().splitlines())
    named = set(_ID.findall(names))
    if named:  # the format has a file per image
        return named & wanted
    found: set[bytes] = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() not in _PICTURES:
            found |= _ids_in(path, wanted)
    return found


def _ids_in(path: Path, wanted: set[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    edge = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text = edge + block
            found.update(wanted.intersection(_ID.findall(text)))
            edge = text[-2 * LENGTH :]
    return found
