"""Where the tasks of this Airflow work: its settings, catalog and lake, and the environment its commands get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import GroundlakeError
from etl.settings import Catalog, Settings, find_project, load_catalog, load_settings, resolve_lake_uri
from etl.settings.settings import PREFIX

if TYPE_CHECKING:
    from etl.lake import Lake


@dataclass(frozen=True)
class Place:
    """What a task works with."""

    settings: Settings
    catalog: Catalog
    lake: Lake


def open_place() -> Place:
    """Settings, catalog and lake of this Airflow; call it inside a task, since it imports deltalake.

    Raises:
        ConfigurationError: A setting or catalog file is wrong, or there is no lake.
    """
    from etl.lake import Lake

    settings = load_settings()
    uri = resolve_lake_uri(None, settings, Path.cwd())
    return Place(settings, load_catalog(_catalog_folder(settings)), Lake.open(uri, settings))


def catalog_or_nothing() -> Catalog:
    """The catalog for the suggestions of a trigger form: empty when it cannot be read.

    A mistake in the catalog must not take the DAGs off the screen; the first task of a run reports it.
    """
    try:
        return load_catalog(_catalog_folder(load_settings()))
    except (GroundlakeError, OSError):
        return Catalog()


def command_environment() -> dict[str, str]:
    """The ``GROUNDLAKE_*`` variables of a command, in a subprocess and in a pod alike.

    Those of this process, plus lake and catalog where the nearest ``groundlake.yaml`` names them: a command works in
    another folder, where that file would not be found.
    """
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)}
    project = find_project(Path.cwd())
    if project is not None:
        found.setdefault(f"{PREFIX}LAKE", project.lake)
        if project.catalog is not None:
            found.setdefault(f"{PREFIX}CATALOG", str(project.catalog))
    return found


def _catalog_folder(settings: Settings) -> Path | None:
    project = find_project(Path.cwd())
    return settings.catalog or (project.catalog if project else None)
