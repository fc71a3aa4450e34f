"""One batch size is written into a model's file; every other character of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import load_catalog
from etl.settings.catalog import SHIPPED
from etl.settings.catalog_files import with_batch_size, write_batch_size

HEAD = "# mine\nstage: tag  # the first\nnetworks: {tagger: {family: ram, weights: 'file:/w'}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalog" / "models").mkdir(parents=True)
    return tmp_path / "catalog"


def write(folder: Path, text: str, name: str = "mine") -> Path:
    file = folder / "models" / f"{name}.yaml"
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'batch_sizes: {"cpu": 4}\n'),
        ("# the end", '# the end\nbatch_sizes: {"cpu": 4}\n'),
        ("batch_size: 8 # usual\ncompile: true\n", 'batch_size: 8 # usual\nbatch_sizes: {"cpu": 4}\ncompile: true\n'),
        ("batch_size: 8", 'batch_size: 8\nbatch_sizes: {"cpu": 4}\n'),
        ("batch_size: 8\r\ndtype: float32\r\n", 'batch_size: 8\r\nbatch_sizes: {"cpu": 4}\r\ndtype: float32\r\n'),
        ("batch_sizes: {}\n", 'batch_sizes: {"cpu": 4}\n'),
        ("batch_sizes: {cpu: 128} # old\n", "batch_sizes: {cpu: 4} # old\n"),
        ('batch_sizes: {"NVIDIA H200": 64}\n', 'batch_sizes: {"NVIDIA H200": 64, "cpu": 4}\n'),
        ("batch_sizes: {a: 64,}\n", 'batch_sizes: {a: 64, "cpu": 4,}\n'),
        ("batch_sizes:\n  a: 2 # by hand\n  cpu: 1 # old\n", "batch_sizes:\n  a: 2 # by hand\n  cpu: 4 # old\n"),
        ("batch_sizes:\n  a: 2 # b\n\ncompile: true\n", 'batch_sizes:\n  a: 2 # b\n  "cpu": 4\n\ncompile: true\n'),
        ("batch_sizes:\n  a: 2", 'batch_sizes:\n  a: 2\n  "cpu": 4\n'),
    ],
)  # fmt: skip
def test_only_the_one_number_changes(folder: Path, before: str, after: str) -> None:
    file = write(folder, HEAD + before)
    written = write_batch_size(folder, "mine", "cpu", 4)
    assert (written.file, written.copied) == (file, False)
    assert file.read_bytes().decode() == HEAD + after
    assert load_catalog(folder).models["mine"].batch_sizes["cpu"] == 4


def test_a_shipped_models_file_is_copied_with_its_comments(folder: Path) -> None:
    written = write_batch_size(folder, "grounded-sam", "NVIDIA H200", 16)
    shipped = (SHIPPED / "models" / "grounded-sam.yaml").read_text()
    assert written.copied
    assert written.file == folder / "models" / "grounded-sam.yaml"
    assert written.file.read_text() == shipped + 'batch_sizes: {"NVIDIA H200": 16}\n'
    assert "batch_sizes" not in load_catalog().models["grounded-sam"].model_fields_set


def test_the_file_that_defines_the_model_is_changed_whatever_it_is_called(folder: Path) -> None:
    write(folder, HEAD, "mine")
    file = write(folder, HEAD + "name: mine\n", "other")  # the later one is the one that is loaded
    assert write_batch_size(folder, "mine", "cpu", 4).file == file
    assert load_catalog(folder).models["mine"].batch_sizes == {"cpu": 4}


def test_a_file_of_that_name_for_another_model_is_left_alone(folder: Path) -> None:
    file = write(folder, HEAD + "name: other\n", "ram-shapes")
    with pytest.raises(ConfigurationError, match="defines another model"):
        write_batch_size(folder, "ram-shapes", "cpu", 4)
    assert file.read_text() == HEAD + "name: other\n"


@pytest.mark.parametrize("text", ["{stage: tag}\n", "stage: tag\n...\n", "a: &a {b: 1}\nbatch_sizes: *a\n", "- a\n"])
def test_what_cannot_be_edited_safely_is_not_edited(text: str) -> None:
    assert with_batch_size(text, "cpu", 4) is None


def test_a_file_that_cannot_be_edited_safely_is_left_to_its_owner(folder: Path) -> None:
    text = HEAD + "...\n"
    file = write(folder, text)
    with pytest.raises(ConfigurationError, match=r'write \'batch_sizes: \{"cpu": 4\}\''):
        write_batch_size(folder, "mine", "cpu", 4)
    assert file.read_text() == text


def test_a_place_that_cannot_be_written_says_what_to_write_by_hand(folder: Path) -> None:
    (folder / "models").rmdir()
    (folder / "models").write_text("a file in the way")
    with pytest.raises(ConfigurationError, match=r'cannot write(.|\n)*batch_sizes: \{"cpu": 4\}'):
        write_batch_size(folder, "ram-shapes", "cpu", 4)


def test_no_such_model(folder: Path) -> None:
    with pytest.raises(UnknownNameError):
        write_batch_size(folder, "none", "cpu", 4)


def test_mode_and_link_of_a_file_stay_and_nothing_is_left_beside_it(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.yaml"
    target.write_text(HEAD)
    target.chmod(0o640)
    (folder / "models" / "mine.yaml").symlink_to(target)
    write_batch_size(folder, "mine", "cpu", 4)
    assert (folder / "models" / "mine.yaml").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.read_text().endswith('batch_sizes: {"cpu": 4}\n')
    assert [path.name for path in (folder / "models").iterdir()] == ["mine.yaml"]
