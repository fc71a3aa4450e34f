"""``manifest.lock.json``: what a manifest was made of, and the proof that it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl import __version__
from etl.errors import DataError
from etl.lake import Snapshot
from etl.manifests.selection import Selection
from etl.settings import ManifestSpec

LOCK = "manifest.lock.json"
LOCK_VERSION = 1


def rows_digest(selection: Selection) -> str:
    """sha256 over everything a format may write, pictures by their ids; it reads rows only."""
    total = hashlib.sha256(json.dumps(selection.annotators(), sort_keys=True).encode())
    for example in selection.examples():
        total.update(hashlib.sha256(example.fingerprint()).digest())
    return total.hexdigest()


def lock_content(
    spec: ManifestSpec,
    version: str,
    snapshot: Snapshot,
    selection: Selection,
    files: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """The lock: no path of this machine, no time, no secret."""
    annotators = selection.annotators()
    return {
        "lock_version": LOCK_VERSION,
        "groundlake": __version__,
        "name": spec.name,
        "version": version,
        "spec": spec.model_dump(mode="json"),
        "tables": dict(sorted(snapshot.versions.items())),
        "annotators": annotators,
        "untrained": any(one["untrained"] for one in annotators),
        "selection": selection.counts,
        "counts": {kind: dict(sorted(values.items())) for kind, values in counts.items()},
        "files": dict(files),
    }


def read_lock(folder: Path) -> dict[str, Any]:
    """The lock of a built manifest.

    Raises:
        DataError: The folder has none: groundlake did not make it, or somebody removed the lock.
    """
    file = folder / LOCK
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} exists but is no whole manifest: {error}", remedy="remove that folder and build again"
        ) from error
    return content
