"""Fixtures of all tests: a place of their own, settings for it, and an empty lake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl.lake import Lake
from etl.settings import Settings

ISOLATED = ("GROUNDLAKE_", "AWS_", "AIRFLOW_", "AIRFLOW__")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's shell, no project folder above, no proxy can reach into a test.

    The working directory is the test's own: a ``groundlake.yaml`` that ``make demo`` left in the clone would else
    name the developer's lake to every test that resolves one.
    """
    for name in os.environ:
        if name.startswith(ISOLATED) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a process that gives up soon and keeps its scratch inside the test's folder."""
    return Settings(scratch=tmp_path / "scratch", commit_deadline=5.0, slice_size=10)


@pytest.fixture
def lake(tmp_path: Path, settings: Settings) -> Lake:
    """An empty lake in ``tmp_path / "lake"``."""
    return Lake.create(str(tmp_path / "lake"), settings)
