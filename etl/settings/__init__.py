"""Settings and the catalog: what a user may configure, validated when it is loaded."""

from etl.settings.catalog import (
    Catalog,
    ManifestSpec,
    ModelEntry,
    Network,
    Source,
    WeightsEntry,
    WeightsFile,
    load_catalog,
)
from etl.settings.project import Project, find_project, resolve_lake_uri
from etl.settings.settings import Settings, load_settings

__all__ = [
    "Catalog",
    "ManifestSpec",
    "ModelEntry",
    "Network",
    "Project",
    "Settings",
    "Source",
    "WeightsEntry",
    "WeightsFile",
    "find_project",
    "load_catalog",
    "load_settings",
    "resolve_lake_uri",
]
