"""``groundlake doctor``: is everything here that the commands need?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from etl.cli.common import LakeOption, open_catalog, out
from etl.errors import EXIT_BAD_CONFIGURATION, GroundlakeError
from etl.settings import Network, Settings, find_project, load_settings, resolve_lake_uri
from etl.settings.catalog import STAGES

if TYPE_CHECKING:
    from etl.lake import Lake

_GIB = 1 << 30
_IMPORT_SECONDS = 120
# Distribution and module. The core is what every command needs, an extra what some do.
_CORE = {
    "deltalake": "deltalake",
    "duckdb": "duckdb",
    "pyarrow": "pyarrow",
    "numpy": "numpy",
    "pillow": "PIL",
    "pycocotools": "pycocotools.mask",
    "boto3": "boto3",
    "httpx": "httpx",
}
_EXTRAS = {
    "ingest": {"img2dataset": "img2dataset", "imagehash": "imagehash"},
    "stages": {"torch": "torch", "transformers": "transformers", "safetensors": "safetensors", "scipy": "scipy"},
    # Importing Airflow would write a configuration into the home folder: found is enough.
    "airflow": {"apache-airflow": "airflow", "kubernetes": "kubernetes"},
}


@dataclass(frozen=True)
class Check:
    """One finding: ``ok``, ``absent`` (not here, and only some commands need it) or ``problem``."""

    name: str
    state: Literal["ok", "absent", "problem"]
    detail: str
    remedy: str | None = None


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, lake: LakeOption = None
) -> None:
    """Check the installation, the settings, the catalog and the lake; says what to do about each problem.

    Exit code 78 when something that is needed is broken. A browser, a GPU and a cluster are not needed.

    For example:

        groundlake doctor

        groundlake doctor --lake my-lake
    """
    found = []
    for check in _checks(lake):
        found.append(check)
        if not as_json:
            _print(check)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in found]))
    problems = sum(check.state == "problem" for check in found)
    if problems:
        if not as_json:
            out.print(f"{problems} problem{'s' * (problems > 1)}")
        raise typer.Exit(EXIT_BAD_CONFIGURATION)


def _print(check: Check) -> None:
    style = {"ok": "green", "absent": "yellow", "problem": "bold red"}[check.state]
    out.print(f"[{style}]{check.state:8}[/]", end="")
    out.print(f"{check.name}: {check.detail}", markup=False)
    if check.remedy:
        out.print(f"          -> {check.remedy}", markup=False)


def _checks(lake: str | None) -> Iterator[Check]:
    yield _python()
    yield from _packages("core", _CORE, needed=True, imported=True)
    for extra, packages in _EXTRAS.items():
        yield from _packages(extra, packages, needed=False, imported=extra != "airflow")
    try:
        settings = load_settings()
    except GroundlakeError as error:
        yield _problem("settings", error)
        return
    yield Check("settings", "ok", f"profile {settings.profile}, device {settings.device}")
    yield _device(settings)
    yield _disk("scratch", settings.scratch)
    yield _catalog(settings)
    yield from _lake(lake, settings)


def _problem(name: str, error: GroundlakeError) -> Check:
    return Check(name, "problem", error.message, error.remedy)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "ok", version)
    return Check(
        "python", "problem", f"{version}, expected 3.11 or 3.12", "img2dataset does not import on 3.13: install 3.12"
    )


def _packages(group: str, packages: dict[str, str], *, needed: bool, imported: bool) -> Iterator[Check]:
    versions = {name: _version(name) for name in packages}
    missing = [name for name, version in versions.items() if version is None]
    remedy = f"pip install 'groundlake[{group}]'" if not needed else "pip install groundlake"
    if missing:
        partly = needed or len(missing) < len(packages)
        state: Literal["problem", "absent"] = "problem" if partly else "absent"
        yield Check(f"packages: {group}", state, f"{', '.join(missing)} not installed", remedy)
        return
    broken = _import_error(list(packages.values())) if imported else None
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    if broken:
        yield Check(f"packages: {group}", "problem", f"{listed}: {broken}", f"{remedy} into a fresh environment")
    else:
        yield Check(f"packages: {group}", "ok", listed)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_error(modules: list[str]) -> str | None:
    """Why the modules cannot be imported, or None; asked of another process, which a broken library may take along."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}  # else an import asks the internet
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and words
            [sys.executable, "-c", code, *modules],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"importing took longer than {_IMPORT_SECONDS} s"
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()
    return last[-1] if last else f"importing ended with status {done.returncode}"


def _device(settings: Settings) -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("device", "absent", "torch is not installed", "pip install 'groundlake[stages]'")
    from etl.stages.device import device_name, resolve_device

    try:
        device = resolve_device(settings.device)
        return Check("device", "ok", f"stages run on {device} ({device_name(device)}), {os.cpu_count()} cores")
    except GroundlakeError as error:
        return _problem("device", error)
    except (ImportError, OSError, RuntimeError) as error:
        return Check(
            "device", "problem", f"torch: {error}", "pip install 'groundlake[stages]' into a fresh environment"
        )


def _disk(name: str, folder: Path) -> Check:
    place = folder.expanduser().resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Check(name, "problem", f"{place} cannot be written", "give this user write access, or choose another")
    detail = f"{folder}: {free / _GIB:.1f} GiB free"
    return Check(name, "ok", detail) if free > _GIB else Check(name, "problem", detail, "free at least 1 GiB there")


def _catalog(settings: Settings) -> Check:
    try:
        catalog = open_catalog(settings)
    except GroundlakeError as error:
        return _problem("catalog", error)
    counts = f"{len(catalog.sources)} sources, {len(catalog.models)} models, {len(catalog.manifests)} manifests"
    return Check("catalog", "ok", counts)


def _lake(explicit: str | None, settings: Settings) -> Iterator[Check]:
    from etl.lake import Lake

    try:
        if not (explicit or settings.lake or find_project(Path.cwd())):
            yield Check("lake", "absent", "none named, none here", "groundlake lake init my-lake && cd my-lake")
            return
        lake = Lake.open(resolve_lake_uri(explicit, settings, Path.cwd()), settings)
        yield Check("lake", "ok", f"{lake.uri}, images table at version {lake.table('images').version()}")
        lake.store.probe()
        yield Check("lake writes", "ok", "can be written, and of two writers of one key one wins")
        if "://" not in lake.uri:
            yield _disk("lake disk", Path(lake.uri))
        yield from _weights(lake, settings)
    except GroundlakeError as error:
        yield _problem("lake", error)


def _weights(lake: Lake, settings: Settings) -> Iterator[Check]:
    """Of every model that is a stage's default or that a source names: are its weights at hand? Nothing is hashed."""
    from etl.models.store import ModelStore

    try:
        catalog = open_catalog(settings)
    except GroundlakeError:
        return  # said above
    store = ModelStore(lake.store, settings.scratch / "models")
    named = {pair for source in catalog.sources.values() for pair in source.models.items()}
    for stage in STAGES:
        told: set[str] = set()
        for name in (None, *sorted(model for of, model in named if of == stage)):
            try:
                entry = catalog.model(stage, name)
            except GroundlakeError as error:
                yield _problem(f"weights: {name or stage}", error)
                continue
            if entry.name in told:
                continue
            told.add(entry.name)
            absent = [network for network in entry.networks.values() if store.stored(network) is None]
            yield _weights_of(f"weights: {entry.name} ({stage})", absent)


def _weights_of(name: str, absent: list[Network]) -> Check:
    """What to do about weights that a lake does not hold; its first run adds those of the package and of folders."""
    by_kind = {kind: [one for one in absent if one.weights.startswith(kind)] for kind in ("catalog:", "file:")}
    folders = [one.weights.removeprefix("file:") for one in by_kind["file:"]]
    lost = [folder for folder in folders if not Path(folder).expanduser().is_dir()]
    if lost:
        return Check(name, "problem", f"no folder {', '.join(lost)}", "correct 'weights' in the catalog")
    to_pull = [one.weights.removeprefix("catalog:") for one in by_kind["catalog:"]]
    if to_pull:
        remedy = f"groundlake models pull {' '.join(to_pull)}; or, with files at hand, groundlake models add"
        return Check(name, "absent", f"not in the lake: {', '.join(to_pull)}", remedy)
    return Check(name, "ok", "at hand, the first run adds them to the lake" if absent else "in the lake")
