"""``groundlake models verify``: every stored file against the sha256 it was added with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etl.models.store import ModelStore, Stored, combined_digest, file_key
from etl.models.weights.partial import Progress
from etl.settings import WeightsEntry
from etl.storage import NotFoundError

_PIECE = 16 << 20


@dataclass(frozen=True)
class Checked:
    """What is wrong with the weights that a store holds under one name; nothing, when ``problems`` is empty."""

    stored: Stored
    problems: tuple[str, ...]


def verify(
    models: ModelStore, entries: Mapping[str, WeightsEntry], only: WeightsEntry | None, progress: Progress
) -> Iterator[Checked]:
    """Check what the store holds, one weights after another.

    Args:
        models: The store.
        entries: The catalog's weights, whose pins may have changed since.
        only: The one to check; None for everything in the store.
        progress: Told now and then how far it is.
    """
    chosen = models.all_stored() if only is None else filter(None, [models.stored(only.network)])
    for stored in chosen:
        name = (stored.weights or "").removeprefix("catalog:")
        entry = entries.get(name) if (stored.weights or "").startswith("catalog:") else None
        problems = [*_of_files(models, stored, progress), *(_of_pins(stored, entry) if entry else ())]
        yield Checked(stored, tuple(problems))


def _of_files(models: ModelStore, stored: Stored, progress: Progress) -> Iterator[str]:
    if combined_digest(stored.files) != stored.digest:
        yield "its index was changed: the digests of the files do not make up the digest of the whole"
    for name, expected in stored.files.items():
        found = _digest(models, stored, name, progress)
        if found is None:
            yield f"{name} is missing"
        elif found != expected:
            yield f"{name} was changed: its sha256 is {found}, it was added with {expected}"


def _digest(models: ModelStore, stored: Stored, name: str, progress: Progress) -> str | None:
    """sha256 of a stored file, read in pieces; None when it is not there."""
    key = file_key(stored.family, stored.digest, name)
    info = models.store.stat(key)
    if info is None:
        return None
    digest, done = hashlib.sha256(), 0
    try:
        while done < info.size:
            piece = models.store.read_range(key, done, min(_PIECE, info.size - done))
            digest.update(piece)
            done += len(piece)
            progress(f"checking {name}", done, info.size)
    except NotFoundError:  # taken away meanwhile
        return None
    return digest.hexdigest()


def _of_pins(stored: Stored, entry: WeightsEntry) -> Iterator[str]:
    for file in entry.files:
        found = stored.sources.get(file.name)
        if found is None:
            yield f"it was made without {file.name}, which the catalog names"
        elif file.sha256 not in (None, found):
            yield f"it was made from a {file.name} with the sha256 {found}, the catalog pins {file.sha256}"
