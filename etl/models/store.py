"""The model store of a lake: weights as safetensors folders, each known by the sha256 of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import ConfigurationError, RetryableError
from etl.settings import Network
from etl.storage import NotFoundError, Store


class WeightsChangedError(ConfigurationError):
    """A file of stored weights is not the one that was added: it was changed, lost or put there by hand."""

    def __init__(self, network: Network, files: list[str]) -> None:
        super().__init__(
            f"the stored weights of {network.family} {network.weights!r} are not those that were added; "
            f"changed, missing or surplus: {', '.join(files)}",
            remedy="restore these files below models/ of the lake, or add the weights again under another name",
        )
        self.files = files


class WeightsAbsentError(ConfigurationError):
    """Weights are not in the model store yet; the remedy is the command that puts them there."""

    def __init__(self, network: Network, place: str) -> None:
        kind, _, name = network.weights.partition(":")
        super().__init__(
            f"the weights of {network.family} {network.weights!r} are not in the model store of {place}",
            remedy=(
                f"run 'groundlake models pull {name}'; or, with its files at hand, "
                f"'groundlake models add {name} FOLDER' ('groundlake models list' names them)"
                if kind == "catalog"
                else "run a stage that uses them once: it adds them"
            ),
        )


@dataclass(frozen=True)
class Stored:
    """What the index of a model store says of weights.

    Attributes:
        family: Family of the network.
        weights: The catalog's text for them; None where an earlier groundlake wrote the index.
        digest: Of all files: the one that annotators name.
        files: sha256 of each file, by its name in the folder.
        bytes: Their lengths together; None where an earlier groundlake wrote the index.
        sources: sha256 of the files they were converted from, by upstream's name.
    """

    family: str
    weights: str | None
    digest: str
    files: dict[str, str]
    bytes: int | None
    sources: dict[str, str]


class ModelStore:
    """Weights below ``models/`` of a lake, copied once to a local cache.

    Layout: ``models/<family>/<digest>/…`` holds the files; ``models/index/<weights>.json`` says which digest the
    catalog's ``weights`` text stands for, and the sha256 of each file. Weights that were converted have the sha256 of
    the files they were made from there too, and what became of every key in ``models/<family>/<digest>.report.json``.

    Args:
        store: The lake's store.
        cache: Local folder for copies.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self.store = store
        self.cache = cache

    def weights_digest(self, network: Network) -> str | None:
        """sha256 of the network's files, or None while the store does not hold them."""
        found = self.stored(network)
        return found.digest if found else None

    def stored(self, network: Network) -> Stored | None:
        """What the store holds of a network, or None."""
        try:
            return _stored(self.store.read_json(self._index(network)), self._index(network))
        except NotFoundError:
            return None

    def all_stored(self) -> Iterator[Stored]:
        """What the store holds, by family; weights that another process is still adding are not among it."""
        for found in self.store.list("models/index/"):
            yield _stored(self.store.read_json(found.key), found.key)

    def add(
        self,
        network: Network,
        folder: Path,
        *,
        files: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> str:
        """Put a folder of files into the store. The first of two adders is kept; adding the same again mends files.

        Args:
            network: Under which name.
            folder: The files that stages will read.
            files: Their sha256 by name, where the caller has just made them.
            sources: sha256 of the files they were made from, by name.
            report: What the conversion did, kept beside them.

        Returns:
            The digest that the store holds under this name from now on: that of the first adder.
        """
        files = dict(files) if files is not None else file_digests(folder)
        digest = combined_digest(files)
        for name in files:
            self.store.publish_file(folder / name, file_key(network.family, digest, name))
        if report is not None:
            self.store.put_if_absent(report_key(network.family, digest), json.dumps(report, indent=1).encode())
        index: dict[str, Any] = {"weights": network.weights, "digest": digest, "files": files}
        index |= {"bytes": sum((folder / name).stat().st_size for name in files), "sources": dict(sources or {})}
        # The index is written last: weights that are not whole are never found.
        self.store.put_if_absent(self._index(network), json.dumps(index).encode())
        return self.weights_digest(network) or digest

    def fetch(self, network: Network) -> Path:
        """A local copy of the network's files, checked against their sha256.

        Raises:
            ConfigurationError: The store does not hold the network.
            WeightsChangedError: A stored file is not the one that was added.
        """
        found = self.stored(network)
        if found is None:
            raise WeightsAbsentError(network, self.store.uri)
        place = self.cache / network.family / found.digest
        if place.is_dir():
            if file_digests(place) == found.files:
                return place
            shutil.rmtree(place)  # a copy is only a copy: the store says what is right
        return self._copy(network, found.files, place)

    def _copy(self, network: Network, files: Mapping[str, str], place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copy-", dir=place.parent) as name:
            copy = Path(name) / "files"
            copy.mkdir()
            for file in files:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.store.download(file_key(network.family, place.name, file), copy / file)
                except NotFoundError:
                    continue  # named by the check below
            found = file_digests(copy)
            if found != dict(files):
                raise WeightsChangedError(network, sorted({name for name, _ in found.items() ^ files.items()}))
            try:
                copy.rename(place)
            except OSError as error:
                if not place.is_dir():  # else a twin was first, with the same files
                    raise RetryableError(
                        f"cannot keep a copy of the weights in {place}: {error}",
                        remedy=f"make {self.cache} writable, then run the command again",
                    ) from error
        return place

    def _index(self, network: Network) -> str:
        name = hashlib.sha256(network.weights.encode()).hexdigest()[:16]
        return f"models/index/{network.family}-{name}.json"


def _stored(index: Mapping[str, Any], key: str) -> Stored:
    return Stored(
        key.rpartition("/")[2].rpartition("-")[0],
        index.get("weights"),
        str(index["digest"]),
        dict(index["files"]),
        index.get("bytes"),
        dict(index.get("sources") or {}),
    )


def file_key(family: str, digest: str, name: str) -> str:
    """Where the store holds a file of weights."""
    return f"models/{family}/{digest}/{name}"


def report_key(family: str, digest: str) -> str:
    """Where the store holds what the conversion did."""
    return f"models/{family}/{digest}.report.json"


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder, by its relative name."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def combined_digest(files: Mapping[str, str]) -> str:
    """One sha256 over the names and digests of files."""
    total = hashlib.sha256()
    for name, digest in sorted(files.items()):
        total.update(name.encode() + b"\0" + bytes.fromhex(digest))
    return total.hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over the relative names and contents of all files of a folder."""
    return combined_digest(file_digests(folder))
