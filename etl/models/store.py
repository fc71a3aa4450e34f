"""The model store of a lake: weights as safetensors folders, each known by the sha256 of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from etl.settings import Network
from etl.storage import NotFoundError, Store


class ModelStore:
    """Weights below ``models/`` of a lake, copied once to a local cache.

    Layout: ``models/<family>/<digest>/…`` holds the files; ``models/index/<weights>.json`` says which digest the
    catalog's ``weights`` text stands for.

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
        digest = folder_digest(folder)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.store.publish_file(file, f"models/{network.family}/{digest}/{file.relative_to(folder).as_posix()}")
        self.store.put_if_absent(self._index(network), json.dumps({"digest": digest}).encode())
        return self.weights_digest(network) or digest

    def _index(self, network: Network) -> str:
        name = hashlib.sha256(network.weights.encode()).hexdigest()[:16]
        return f"models/index/{network.family}-{name}.json"


def folder_digest(folder: Path) -> str:
    """sha256 over the relative names and contents of all files of a folder."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
