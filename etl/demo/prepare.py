"""Laying out the demo's folder: sample pictures, catalog, an empty lake, and a ``groundlake.yaml`` that names them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from etl.demo.pictures import VERSION, SampleSource, make_source
from etl.demo.ports import HOST, free_port, is_free
from etl.demo.processes import MARKER
from etl.demo.report import Report
from etl.demo.state import State, write_whole
from etl.errors import ConfigurationError
from etl.settings import Settings, load_settings
from etl.settings.project import FILE_NAME

if TYPE_CHECKING:
    from etl.lake import Lake

SOURCE = "demo"  # the name of the sample's source where no older demo has taken it
SHARDS = 2  # one per slot: a third would keep one of them waiting
SLOTS = 2  # stages that run at a time, as the pools of profile local have it

_BOXED = "select distinct image_id from instances"
MANIFESTS: Mapping[str, Mapping[str, Any]] = {
    "demo-instancediffusion": {"format": "instancediffusion", "sql": _BOXED},
    "demo-meta-json": {"format": "meta_json", "sql": "select image_id from images"},
    "demo-coco": {"format": "coco", "sql": _BOXED},
    "demo-jsonl": {"format": "jsonl", "sql": "select image_id from images where width >= height"},
}


@dataclass(frozen=True)
class Layout:
    """Where the parts of a demo lie.

    Attributes:
        root: The clone, or another folder; ``groundlake.yaml`` goes here.
    """

    root: Path

    @property
    def folder(self) -> Path:
        """Everything the demo writes, except ``groundlake.yaml``."""
        return self.root / ".demo"

    @property
    def lake(self) -> Path:
        """The lake."""
        return self.folder / "lake"

    @property
    def catalog(self) -> Path:
        """The catalog."""
        return self.folder / "catalog"

    @property
    def pictures(self) -> Path:
        """What the picture server serves."""
        return self.folder / "source"

    @property
    def airflow(self) -> Path:
        """Home of Airflow."""
        return self.folder / "airflow"

    @property
    def contact_sheet(self) -> Path:
        """The PNG of annotated pictures."""
        return self.folder / "contact-sheet.png"

    @property
    def worst(self) -> Path:
        """The PNG of the pictures whose annotations are furthest from the truth."""
        return self.folder / "worst.png"

    def settings(self) -> Settings:
        """The settings of this process, with the demo's places.

        Raises:
            ConfigurationError: A ``GROUNDLAKE_`` variable of the caller is wrong.
        """
        places = {"lake": str(self.lake), "catalog": self.catalog, "profile": "local", "scratch": self.folder / "tmp"}
        return load_settings().model_copy(update=places)

    def environment(self) -> dict[str, str]:
        """What Airflow and its tasks must know of this layout."""
        threads = max(1, (os.cpu_count() or 1) // SLOTS)
        return {
            "GROUNDLAKE_LAKE": str(self.lake),
            "GROUNDLAKE_CATALOG": str(self.catalog),
            "GROUNDLAKE_PROFILE": "local",
            "GROUNDLAKE_SCRATCH": str(self.folder / "tmp"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            MARKER: str(self.folder),
        }


def picture_port(state: State) -> int:
    """The port of the picture server: chosen once, because it is part of every url and so of every shard.

    Raises:
        ConfigurationError: Another program has taken it meanwhile.
    """
    port = state.choice("picture_port")
    if port is None:
        port = free_port()
        state.choose("picture_port", port)
    elif not is_free(port):
        raise ConfigurationError(
            f"port {port} of {HOST}, where the demo's picture urls point to, is in use by another program",
            remedy="stop that program, or begin afresh with 'make clean' and 'make demo'",
        )
    return port


@dataclass(frozen=True)
class Prepared:
    """What a demo runs on: the sample, the name of its source in catalog and lake, and the lake."""

    sample: SampleSource
    source: str
    lake: Lake


def prepare(layout: Layout, base_url: str, report: Report) -> Prepared:
    """Make what is missing of pictures, catalog and lake; what is there already stays.

    Args:
        layout: Where to.
        base_url: Where the pictures will be served.
        report: Told when ``groundlake.yaml`` names another lake, or the lake holds the sample of an older demo.
    """
    from etl.lake import Lake

    sample = make_source(layout.pictures, base_url)
    uri = os.path.relpath(sample.list_path, layout.folder)
    source = _source_name(layout, uri, report)
    content = {
        "uri": uri,
        "url_column": "url",
        "caption_column": "caption",
        "licence": "generated",
        "shard_size": math.ceil(sample.n_urls / SHARDS),
        "max_failed_share": 0.6,  # a good part of the sample is broken on purpose
        "download": {"allow_private_addresses": True, "timeout": 5, "retries": 0},
    }
    _write_yaml(_source_file(layout, source), content)
    (layout.catalog / "models").mkdir(parents=True, exist_ok=True)
    for name, spec in MANIFESTS.items():
        _write_yaml(layout.catalog / "manifests" / f"{name}.yaml", spec)
    _write_project(layout, report)
    return Prepared(sample, source, Lake.create(str(layout.lake), layout.settings()))


def _source_file(layout: Layout, source: str) -> Path:
    return layout.catalog / "sources" / f"{source}.yaml"


def _source_name(layout: Layout, uri: str, report: Report) -> str:
    """What the sample is called: ``demo``, unless the sample of another version has that name.

    Under one name the urls of both would be counted together, and the annotators that are current for the old pictures
    would be so for the new ones.
    """
    first = _source_file(layout, SOURCE)
    if not first.exists() or yaml.safe_load(first.read_text()).get("uri") == uri:
        return SOURCE
    name = f"{SOURCE}-{VERSION}"
    if not _source_file(layout, name).exists():
        report.line(
            f"Notice: the source {SOURCE!r} of this lake is the sample of an older groundlake and stays as it is; "
            f"today's sample comes beside it as {name!r} ('make clean' and 'make demo' would begin afresh)",
            "yellow",
        )
    return name


def _write_project(layout: Layout, report: Report) -> None:
    wanted = {"lake": ".demo/lake", "catalog": ".demo/catalog"}
    file = layout.root / FILE_NAME
    if not file.exists():
        _write_yaml(file, wanted)
    elif yaml.safe_load(file.read_text()) != wanted:
        report.line(
            f"Notice: {file} names another lake and stays as it is; reach the demo's with --lake {layout.lake}",
            "yellow",
        )


def _write_yaml(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file unless it is there: a person may have changed it."""
    if not file.exists():
        write_whole(file, yaml.safe_dump(dict(content), sort_keys=False))
