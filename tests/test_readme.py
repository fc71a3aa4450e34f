"""What the README says of the tables and commands is what they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etl.cli.main import app
from etl.lake.schemas import TABLES
from etl.manifests.formats import FORMATS

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_listed_with_all_its_columns(name: str) -> None:
    table = TABLES[name]
    columns = ", ".join(column.name for column in table.columns)
    assert f"| `{name}` | {table.row} | {columns} |" in README


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_listed(name: str) -> None:
    assert f"| `{name}` | " in README


def test_every_command_that_is_shown_exists() -> None:
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    shown = set(re.findall(r"\$ (?:\.venv/bin/)?groundlake (\w+)", README))
    assert shown
    assert shown <= known
