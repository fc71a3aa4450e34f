"""A report that can be read."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

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
