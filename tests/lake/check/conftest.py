"""A sound lake, made once; every test hurts a copy of its own."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sound_lake import Sound, sound

from etl.lake import Lake
from etl.lake.check import Finding, Scope, check
from etl.lake.check.bench import Bench
from etl.lake.schemas import TABLES
from etl.settings import Settings


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Not to be changed."""
    place = tmp_path_factory.mktemp("sound")
    return sound(Lake.create(str(place / "lake"), Settings(scratch=place / "scratch", slice_size=10)))


@pytest.fixture
def made(template: Sound, tmp_path: Path, settings: Settings) -> Sound:
    """A copy of the sound lake."""
    shutil.copytree(template.lake.uri, tmp_path / "lake")
    return replace(template, lake=Lake.open(str(tmp_path / "lake"), settings), units=dict(template.units))


@pytest.fixture
def run() -> Callable[..., list[Finding]]:
    """Runs one check, or all, over some tables."""

    def run(made: Sound, one: Callable[..., Iterator[Finding]] | None = None, *tables: str, **scope) -> list[Finding]:
        chosen = Scope(tables or tuple(TABLES), **scope)
        if one is None:
            return list(check(made.lake, chosen))
        with Bench(made.lake, chosen) as bench:
            return list(one(bench, lambda done, total: None))

    return run
