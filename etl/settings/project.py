"""Where the lake is: ``--lake``, else ``GROUNDLAKE_LAKE``, else the nearest ``groundlake.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from etl.errors import ConfigurationError
from etl.settings.settings import Settings

FILE_NAME = "groundlake.yaml"


@dataclass(frozen=True)
class Project:
    """A folder with a ``groundlake.yaml``: names its lake, and its catalog if it has one."""

    root: Path
    lake: str
    catalog: Path | None


def find_project(start: Path) -> Project | None:
    """The project of ``start``: the nearest folder at or above it that holds a ``groundlake.yaml``.

    Raises:
        ConfigurationError: The file is not a mapping of ``lake`` and, if wanted, ``catalog``.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        file = folder / FILE_NAME
        if file.is_file():
            return _read(file)
    return None


def _read(file: Path) -> Project:
    try:
        content = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict) or not set(content) <= {"lake", "catalog"}:
        raise ConfigurationError(f"{file}: expected the keys 'lake' and 'catalog', got {content!r}")
    lake = str(content.get("lake", "."))
    catalog = content.get("catalog")
    return Project(
        root=file.parent,
        lake=lake if "://" in lake else str((file.parent / lake).resolve()),
        catalog=(file.parent / str(catalog)).resolve() if catalog else None,
    )


def resolve_lake_uri(explicit: str | None, settings: Settings, start: Path) -> str:
    """Decide which lake a command works on.

    Args:
        explicit: The value of ``--lake``, if given.
        settings: The process settings.
        start: Folder whose parents are searched for a ``groundlake.yaml``.

    Raises:
        ConfigurationError: None of the three names a lake.
    """
    chosen = explicit or settings.lake
    if chosen:
        return chosen if "://" in chosen else str(Path(chosen).expanduser().resolve())
    project = find_project(start)
    if project is None:
        raise ConfigurationError(
            f"no lake: --lake is not given, GROUNDLAKE_LAKE is not set, and no {FILE_NAME} lies at or above {start}",
            remedy="run 'groundlake lake init FOLDER' and work inside that folder, or pass --lake FOLDER",
        )
    return project.lake
