"""The demo's folder: whatever is there stays, so that a second demo is incremental and edits survive."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.demo.ports import HOST
from etl.demo.prepare import MANIFESTS, SHARDS, SOURCE, Layout, picture_port, prepare
from etl.demo.report import Report
from etl.demo.state import State
from etl.errors import ConfigurationError
from etl.settings import find_project, load_catalog

Said = Callable[[], str]
BASE = "http://127.0.0.1:4711"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_fresh_folder_gets_pictures_catalog_lake_and_a_project_file(layout: Layout, report: Report) -> None:
    sample, lake = prepare(layout, BASE, report)
    project = find_project(layout.root)
    assert project is not None
    assert project.lake == lake.uri == str(layout.lake)
    catalog = load_catalog(project.catalog)
    source = catalog.source(SOURCE)
    assert Path(source.uri) == sample.list_path
    assert (SHARDS - 1) * source.shard_size < sample.n_urls <= SHARDS * source.shard_size
    assert source.download.allow_private_addresses
    assert set(MANIFESTS) <= set(catalog.manifests)
    assert {catalog.manifest(name).format for name in MANIFESTS} == {"instancediffusion", "meta_json", "coco", "jsonl"}


def test_a_second_time_changes_nothing_and_keeps_edits(layout: Layout, report: Report) -> None:
    prepare(layout, BASE, report)
    edited = layout.catalog / "manifests" / "demo-coco.yaml"
    edited.write_text("format: coco\nsql: select image_id from images limit 3\n")
    before = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    prepare(layout, BASE, report)
    assert {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()} == before


def test_a_project_file_that_names_another_lake_stays_and_is_mentioned(
    layout: Layout, report: Report, said: Said
) -> None:
    (layout.root / "groundlake.yaml").write_text("lake: my-lake\n")
    prepare(layout, BASE, report)
    assert (layout.root / "groundlake.yaml").read_text() == "lake: my-lake\n"
    assert f"--lake {layout.lake}" in said()


def test_the_pictures_keep_their_port_because_urls_are_identity(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert picture_port(state) == picture_port(state)


def test_a_picture_port_taken_by_another_program_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        state.choose("picture_port", other.getsockname()[1])
        with pytest.raises(ConfigurationError, match="make clean"):
            picture_port(state)


def test_the_environment_wins_over_settings_of_the_caller(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_LAKE", "s3://production/lake")
    monkeypatch.setenv("GROUNDLAKE_PROFILE", "kubernetes")
    assert layout.environment()["GROUNDLAKE_LAKE"] == layout.settings().lake == str(layout.lake)
    assert layout.environment()["GROUNDLAKE_PROFILE"] == layout.settings().profile == "local"
