"""The demo's folder: whatever is there stays, so that a second demo is incremental and edits survive."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.demo import pictures
from etl.demo.pictures import VERSION, make_source
from etl.demo.ports import HOST
from etl.demo.prepare import MANIFESTS, SHARDS, SOURCE, Layout, picture_port, prepare
from etl.demo.report import Report
from etl.demo.state import State
from etl.errors import ConfigurationError
from etl.settings import find_project, load_catalog

Said = Callable[[], str]
BASE = "http://127.0.0.1:4711"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the number of the pictures is tested."""
    monkeypatch.setattr(pictures, "SCENES", 10)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_fresh_folder_gets_pictures_catalog_lake_and_a_project_file(layout: Layout, report: Report) -> None:
    ready = prepare(layout, BASE, report)
    project = find_project(layout.root)
    assert project is not None
    assert project.lake == ready.lake.uri == str(layout.lake)
    catalog = load_catalog(project.catalog)
    assert ready.source == SOURCE
    source = catalog.source(SOURCE)
    assert Path(source.uri) == ready.sample.list_path
    assert (SHARDS - 1) * source.shard_size < ready.sample.n_urls <= SHARDS * source.shard_size
    assert source.download.allow_private_addresses
    assert set(MANIFESTS) <= set(catalog.manifests)
    assert {catalog.manifest(name).format for name in MANIFESTS} == {"instancediffusion", "meta_json", "coco", "jsonl"}


def test_beside_the_sample_of_an_older_demo_the_new_one_is_a_source_of_its_own(
    layout: Layout, report: Report, said: Said
) -> None:
    older = layout.pictures / "urls.parquet"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"the list of an older demo")
    entry = layout.catalog / "sources" / f"{SOURCE}.yaml"
    entry.parent.mkdir(parents=True)
    entry.write_text("uri: source/urls.parquet\nshard_size: 93\n")
    before = entry.read_text()
    names = [prepare(layout, BASE, report).source for _ in range(2)]
    assert names == [f"{SOURCE}-{VERSION}"] * 2
    catalog = load_catalog(layout.catalog)
    assert Path(catalog.source(SOURCE).uri) == older
    assert Path(catalog.source(names[0]).uri) == make_source(layout.pictures, BASE).list_path
    assert (entry.read_text(), older.read_bytes()) == (before, b"the list of an older demo")
    assert said().count("stays as it is") == 1
    assert "make clean" in said()


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
