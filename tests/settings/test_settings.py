"""Settings come from the environment; a mistake in one is named, never overlooked."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigurationError, UnknownNameError
from etl.settings import Settings, load_settings
from etl.settings.settings import PREFIX

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_without_variables_the_defaults_hold() -> None:
    settings = load_settings()
    assert (settings.profile, settings.device, settings.lake) == ("local", "auto", None)


def test_a_variable_wins_over_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_SLICE_SIZE", "17")
    monkeypatch.setenv("GROUNDLAKE_CATALOG", "some/folder")
    settings = load_settings()
    assert (settings.slice_size, settings.catalog) == (17, Path("some/folder"))


def test_a_misspelt_variable_is_named_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_SLICESIZE", "17")
    with pytest.raises(UnknownNameError, match=r"'GROUNDLAKE_SLICESIZE'.*GROUNDLAKE_SLICE_SIZE"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GROUNDLAKE_SLICE_SIZE", "0"),
        ("GROUNDLAKE_SLICE_SIZE", "many"),
        ("GROUNDLAKE_PROFILE", "cloud"),
        ("GROUNDLAKE_DEVICE", "gpu"),
        ("GROUNDLAKE_DEVICE", "cuda:x"),
        ("GROUNDLAKE_COMMIT_DEADLINE", "0"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}='{value}'.*\n.*docs/settings.md"):
        load_settings()


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("GROUNDLAKE_DEVICE", device)
    assert load_settings().device == device


def test_a_loaded_setting_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().slice_size = 5


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{PREFIX}{name.upper()}`" in DOCUMENT.read_text()
    assert Settings.model_fields[name].description


def test_the_document_names_no_setting_that_is_gone() -> None:
    named = {line.split("`")[1] for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{PREFIX}")}
    assert named == {PREFIX + name.upper() for name in Settings.model_fields}
