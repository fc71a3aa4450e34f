"""What built manifests pin: versions of tables that stay readable, and the files those versions need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from etl.errors import DataError, UnknownNameError
from etl.lake.lake import Lake
from etl.lake.parts import data_paths
from etl.lake.remaps import read_remaps, resolve


@dataclass(frozen=True)
class Pin:
    """A registered manifest and the versions of the tables it was built from."""

    name: str
    version: str
    built_at: datetime
    tables: Mapping[str, int]


def read_pins(lake: Lake) -> list[Pin]:
    """Every registered manifest, oldest first.

    Raises:
        DataError: A lock is not one.
        StorageError: The store failed.
    """
    return sorted(_pins(lake), key=lambda pin: (pin.built_at, pin.name, pin.version))


def pinned_versions(lake: Lake) -> dict[str, list[int]]:
    """Per table the versions that locks of registered manifests name, ascending; tables without any are absent.

    Raises:
        DataError: A lock is not one.
        StorageError: The store failed.
    """
    found: dict[str, set[int]] = {}
    for pin in _pins(lake):
        for table, version in pin.tables.items():
            found.setdefault(table, set()).add(version)
    return {table: sorted(versions) for table, versions in sorted(found.items())}


def pinned_files(lake: Lake, name: str) -> set[str]:
    """Paths inside a table of all files its pinned versions need: as their logs name them, and as takedowns left them.

    Both, since whoever deletes files must keep the replacements, and leave the replaced ones to the purge.

    Raises:
        ConfigurationError: A pinned version cannot be opened.
        DataError: A lock is not one.
        StorageError: The store failed.
    """
    remap = read_remaps(lake).get(name, {})
    files: set[str] = set()
    for version in pinned_versions(lake).get(name, []):
        paths = data_paths(lake.table(name, version))
        files.update(paths, resolve(paths, remap))
    return files


def manifest_versions(lake: Lake, name: str, version: str | None = None) -> Mapping[str, int]:
    """The versions of the tables that a built manifest was made from.

    Args:
        lake: The lake.
        name: The manifest.
        version: Its version; else the one built last.

    Raises:
        UnknownNameError: No such manifest was built.
    """
    pins = read_pins(lake)
    named = [pin for pin in pins if pin.name == name]
    if not named:
        raise UnknownNameError("manifest", name, sorted({pin.name for pin in pins}), remedy="groundlake manifest list")
    for pin in reversed(named):
        if version in (None, pin.version):
            return pin.tables
    raise UnknownNameError(f"version of manifest {name!r}", version, [pin.version for pin in named])


def _pins(lake: Lake) -> Iterator[Pin]:
    columns = ["name", "version", "built_at", "lock"]
    for batch in lake.table("manifests").to_pyarrow_dataset().to_batches(columns=columns):
        for row in batch.to_pylist():
            try:
                tables = {table: int(version) for table, version in json.loads(row["lock"])["tables"].items()}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(
                    f"the lock of manifest {row['name']}/{row['version']} names no versions of tables: {error!r}",
                    remedy="build that manifest again",
                ) from error
            yield Pin(row["name"], row["version"], row["built_at"], tables)
