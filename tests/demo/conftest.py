"""Makes ``tests/handmade.py`` importable (the test folders are no packages), and a report that can be read."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from etl.demo.report import Report


@pytest.fixture
def report() -> Report:
    return Report(Console(file=io.StringIO(), width=200))


@pytest.fixture
def said(report: Report) -> Callable[[], str]:
    """All that was reported so far."""

    def text() -> str:
        assert isinstance(report.console.file, io.StringIO)
        return report.console.file.getvalue()

    return text
