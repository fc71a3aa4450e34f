"""The catalog is validated when it is loaded: a mistake names file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import load_catalog
from etl.settings.catalog import STAGES

MODEL = "stage: tag\nnetworks: {tagger: {family: ram, weights: 'packaged:tiny/tagger@000000000001'}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("sources", "models", "manifests"):
        (tmp_path / "catalog" / kind).mkdir(parents=True)
    return tmp_path / "catalog"


@pytest.mark.parametrize("stage", STAGES)
def test_the_shipped_catalog_has_one_default_per_stage(stage: str) -> None:
    assert load_catalog().model(stage).stage == stage


def test_a_file_is_known_by_its_name(folder: Path) -> None:
    (folder / "sources" / "mine.yaml").write_text("uri: urls.csv\n")
    assert load_catalog(folder).source("mine").name == "mine"


def test_a_list_is_relative_to_the_catalogs_parent(folder: Path) -> None:
    (folder / "sources" / "mine.yaml").write_text("uri: lists/urls.csv\n")
    (folder / "sources" / "remote.yaml").write_text("uri: s3://bucket/urls.csv\n")
    catalog = load_catalog(folder)
    assert catalog.source("mine").uri == str(folder.parent / "lists/urls.csv")
    assert catalog.source("remote").uri == "s3://bucket/urls.csv"


def test_a_file_of_the_project_replaces_the_shipped_one(folder: Path) -> None:
    shipped = load_catalog().model("tag")
    (folder / "models" / f"{shipped.name}.yaml").write_text(MODEL + "default: true\nbatch_size: 77\n")
    assert load_catalog(folder).model("tag").batch_size == 77


def test_a_model_can_be_named_instead_of_the_default(folder: Path) -> None:
    (folder / "models" / "other.yaml").write_text(MODEL)
    assert load_catalog(folder).model("tag", "other").name == "other"


@pytest.mark.parametrize(
    ("kind", "content", "parts"),
    [
        ("sources", "uri: x\nshard_size: 0\n", ["shard_size", "0", "greater than or equal to 1"]),
        ("sources", "uri: x\nshard_size: 10001\n", ["shard_size", "10001", "less than or equal to 10000"]),
        ("sources", "uri: x\nurl_colum: u\n", ["url_colum", "'u'", "allowed keys", "url_column"]),
        ("sources", "uri: x\ndownload: {timeout: soon}\n", ["download.timeout", "'soon'", "integer"]),
        ("sources", "uri: x\nmodels: {tags: m}\n", ["models.tags", "'tag'", "'embed'"]),
        ("models", MODEL.replace("stage: tag", "stage: tags"), ["stage", "'tags'", "'tag', 'ground'"]),
        ("models", MODEL.replace("ram", "rom"), ["networks.tagger.family", "'rom'", "'ram'"]),
        ("models", MODEL.replace("packaged:", "random:"), ["networks.tagger.weights", "'random:tiny/", "packaged:"]),
        ("models", "stage: tag\n", ["networks", "required"]),
        ("manifests", "format: voc\nsql: select 1\n", ["format", "'voc'", "'coco'"]),
        ("manifests", "format: coco\n", ["sql", "required"]),
        ("manifests", "name: Über uns\nformat: coco\nsql: s\n", ["name", "'Über uns'"]),
    ],
)
def test_a_wrong_entry_names_file_key_value_and_what_is_allowed(
    folder: Path, kind: str, content: str, parts: list[str]
) -> None:
    file = folder / kind / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(folder)
    for part in (str(file), *parts):
        assert part in str(caught.value)


def test_every_mistake_of_a_file_is_listed(folder: Path) -> None:
    (folder / "sources" / "wrong.yaml").write_text("shard_size: 0\nnightly: perhaps\n")
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(folder)
    assert "shard_size" in str(caught.value)
    assert "nightly" in str(caught.value)


@pytest.mark.parametrize("content", ["uri: [", "- a\n- b\n", "", "\x00"], ids=["cut", "list", "empty", "binary"])
def test_what_is_no_mapping_is_refused(folder: Path, content: str) -> None:
    (folder / "sources" / "wrong.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"wrong\.yaml"):
        load_catalog(folder)


def test_a_source_without_a_list_is_refused(folder: Path) -> None:
    (folder / "sources" / "wrong.yaml").write_text("licence: CC0\n")
    with pytest.raises(ConfigurationError, match="uri"):
        load_catalog(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_catalog(tmp_path / "none")


def test_an_unknown_name_lists_those_that_exist(folder: Path) -> None:
    (folder / "sources" / "mine.yaml").write_text("uri: urls.csv\n")
    catalog = load_catalog(folder)
    with pytest.raises(UnknownNameError, match="'theirs'; known: mine"):
        catalog.source("theirs")
    with pytest.raises(UnknownNameError, match="unknown tag model 'none'"):
        catalog.model("tag", "none")
    with pytest.raises(UnknownNameError, match="unknown manifest 'none'"):
        catalog.manifest("none")


def test_two_defaults_of_a_stage_are_refused(folder: Path) -> None:
    (folder / "models" / "other.yaml").write_text(MODEL + "default: true\n")
    with pytest.raises(ConfigurationError, match=r"has 2 default models(.|\n)*exactly one"):
        load_catalog(folder).model("tag")
