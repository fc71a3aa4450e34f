"""Which lake a command works on: --lake, else GROUNDLAKE_LAKE, else the nearest groundlake.yaml, else a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.settings import Settings, find_project, resolve_lake_uri


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder, and a folder two levels below it to work in."""
    root = tmp_path / "project"
    (root / "a" / "b").mkdir(parents=True)
    (root / "groundlake.yaml").write_text("lake: the/lake\ncatalog: the/catalog\n")
    return root


@pytest.mark.parametrize(
    ("explicit", "variable", "expected"),
    [
        ("/given", "/variable", "/given"),
        (None, "/variable", "/variable"),
        (None, None, "PROJECT/the/lake"),
        ("s3://bucket/lake", None, "s3://bucket/lake"),
        (None, "s3://bucket/lake", "s3://bucket/lake"),
    ],
    ids=["--lake wins", "then the variable", "then the project", "a uri as it is", "a uri in the variable"],
)
def test_the_order(project: Path, explicit: str | None, variable: str | None, expected: str) -> None:
    found = resolve_lake_uri(explicit, Settings(lake=variable), project / "a" / "b")
    assert found == expected.replace("PROJECT", str(project))


def test_a_relative_folder_is_relative_to_where_the_command_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "a")
    assert resolve_lake_uri("mine", Settings(), project) == str(project / "a" / "mine")


def test_the_nearest_project_counts(project: Path) -> None:
    (project / "a" / "groundlake.yaml").write_text("lake: inner\n")
    assert resolve_lake_uri(None, Settings(), project / "a" / "b") == str(project / "a" / "inner")
    assert resolve_lake_uri(None, Settings(), project) == str(project / "the/lake")


def test_none_of_the_three_is_an_error_that_names_them_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--lake.*GROUNDLAKE_LAKE.*groundlake\.yaml(.|\n)*lake init"):
        resolve_lake_uri(None, Settings(), tmp_path)


def test_a_project_names_its_catalog_beside_itself(project: Path) -> None:
    found = find_project(project / "a" / "b")
    assert found is not None
    assert (found.root, found.catalog) == (project, project / "the/catalog")


def test_an_empty_file_means_that_the_folder_is_the_lake(tmp_path: Path) -> None:
    (tmp_path / "groundlake.yaml").write_text("")
    found = find_project(tmp_path)
    assert found is not None
    assert (found.lake, found.catalog) == (str(tmp_path), None)


@pytest.mark.parametrize("content", ["[1, 2]", "lakes: x", "lake: [", "just text"])
def test_a_file_that_is_wrong_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "groundlake.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=str(tmp_path / "groundlake.yaml")):
        find_project(tmp_path)
