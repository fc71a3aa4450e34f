"""What every command shares: the lake it works on, the catalog, and how errors end the process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from etl.errors import GroundlakeError, StoppedError
from etl.settings import Catalog, Settings, find_project, load_catalog, load_settings, resolve_lake_uri

if TYPE_CHECKING:
    from etl.lake import Lake

_FILE_WIDTH = 200  # of output that is no terminal: a log or another program wants whole cells
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _FILE_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else _FILE_WIDTH)

LakeOption = Annotated[
    str | None,
    typer.Option("--lake", help="Folder or uri of the lake; else GROUNDLAKE_LAKE, else the nearest groundlake.yaml."),
]


@dataclass(frozen=True)
class Context:
    """What a command works with."""

    settings: Settings
    catalog: Catalog
    lake: Lake


def folding_table(*heads: str, title: str | None = None) -> Table:
    """A table whose narrow cells are wrapped, never cut."""
    return Table(*(Column(head, overflow="fold") for head in heads), title=title, title_justify="left")


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of the folder that the settings name, over the shipped one."""
    return load_catalog(catalog_folder(settings))


def catalog_folder(settings: Settings) -> Path | None:
    """The catalog folder of ``GROUNDLAKE_CATALOG``, else of the nearest ``groundlake.yaml``, else None."""
    project = find_project(Path.cwd())
    return settings.catalog or (project.catalog if project else None)


def open_context(lake_uri: str | None, *, reading: bool = False) -> Context:
    """Settings, catalog and the lake of a command.

    Args:
        lake_uri: What ``--lake`` says.
        reading: Whether the command only reads the lake, so that one of an older groundlake will do.

    Raises:
        ConfigurationError: A setting is wrong, or there is no lake that it can use.
    """
    from etl.lake import Lake

    settings = load_settings()
    uri = resolve_lake_uri(lake_uri, settings, Path.cwd())
    return Context(settings, open_catalog(settings), Lake.open(uri, settings, reading=reading))


def _terminated(signum: int, _: FrameType | None) -> NoReturn:
    raise StoppedError(f"stopped by {signal.Signals(signum).name}", remedy="run it again: it resumes where it was")


@contextmanager
def errors_end_the_process() -> Iterator[None]:
    """Print a typed error with its remedy and exit with its code; SIGTERM and Ctrl-C end as a retryable error."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, _terminated)  # typer would turn a KeyboardInterrupt into an exit code of its own
    try:
        yield
    except GroundlakeError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        err.print(str(error), markup=False)
        sys.exit(error.exit_code)
