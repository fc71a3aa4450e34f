"""The class map: what labels are called in the truth, read from a file that may be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError
from etl.evaluate.classes import ClassMap


def read(folder: Path, text: str) -> ClassMap:
    (folder / "map.yaml").write_text(text)
    return ClassMap.read(folder / "map.yaml")


def test_a_label_is_renamed_ignored_or_kept(tmp_path: Path) -> None:
    classes = read(tmp_path, "classes: {person: human, grass: null}\ngroups: {animals: [cat, dog]}")
    assert [classes.of(label) for label in ("person", "grass", "cat")] == ["human", None, "cat"]
    assert classes.groups == {"animals": ("cat", "dog")}
    assert classes.targets() == {"human", "cat", "dog"}


def test_labels_that_are_not_named_can_be_ignored(tmp_path: Path) -> None:
    classes = read(tmp_path, "{classes: {dog: dog}, others: ignore}")
    assert [classes.of(label) for label in ("dog", "cat")] == ["dog", None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: [a", "is not YAML"),
        ("- classes", "expected a mapping of keys, got list"),
        ("", "expected a mapping of keys, got NoneType"),
        ("labels: {}", "allowed keys: classes, groups, others"),
        ("classes: {dog: 3}", "classes.dog: got 3"),
        ("classes: {dog: ''}", "classes.dog: got ''"),
        ("classes: {yes: dog}", "got True"),  # YAML reads yes as true: it must be quoted
        ("groups: {animals: dog}", "groups.animals: got 'dog'"),
        ("others: maybe", "'keep' or 'ignore'"),
        ("classes:\n  dog: hound\n  dog: cat", "the key 'dog' stands twice"),
    ],
)
def test_a_wrong_file_is_refused_with_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert "map.yaml" in caught.value.message
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the class map .*none\.yaml"):
        ClassMap.read(tmp_path / "none.yaml")
