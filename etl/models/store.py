"""The model store of a lake: weights as safetensors folders, each known by the sha256 of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

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


class ModelStore:
    """Weights below ``models/`` of a lake, copied once to a local cache.

    Layout: ``models/<family>/<digest>/…`` holds the files; ``models/index/<weights>.json`` says which digest the
    catalog's ``weights`` text stands for, and the sha256 of each file.

    Args:
        store: The lake's store.
        cache: Local folder for copies.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self.store = store
        self.cache = cache

    def weights_digest(self, network: Network) -> str | None:
        """sha256 of the network's files, or None while the store does not hold them."""
        try:
            return str(self.store.read_json(self._index(network))["digest"])
        except NotFoundError:
            return None

    def add(self, network: Network, folder: Path) -> str:
        """Put a folder of files into the store; returns its digest. The first of two adders is kept."""
        files = file_digests(folder)
        digest = combined_digest(files)
        for name in files:
            self.store.publish_file(folder / name, f"models/{network.family}/{digest}/{name}")
        # The index is written last: weights that are not whole are never found.
        self.store.put_if_absent(self._index(network), json.dumps({"digest": digest, "files": files}).encode())
        return self.weights_digest(network) or digest

    def fetch(self, network: Network) -> Path:
        """A local copy of the network's files, checked against their sha256.

        Raises:
            ConfigurationError: The store does not hold the network.
            WeightsChangedError: A stored file is not the one that was added.
        """
        try:
            index = self.store.read_json(self._index(network))
        except NotFoundError:
            raise ConfigurationError(
                f"the weights of {network.family} {network.weights!r} are not in the model store of {self.store.uri}",
                remedy="run a stage that uses them once: it adds them",
            ) from None
        place = self.cache / network.family / str(index["digest"])
        if place.is_dir():
            if file_digests(place) == index["files"]:
                return place
            shutil.rmtree(place)  # a copy is only a copy: the store says what is right
        return self._copy(network, index["files"], place)

    def _copy(self, network: Network, files: Mapping[str, str], place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copy-", dir=place.parent) as name:
            copy = Path(name) / "files"
            copy.mkdir()
            for file in files:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.store.download(f"models/{network.family}/{place.name}/{file}", copy / file)
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
