"""``groundlake models pull``, ``add`` and ``verify``: upstream's checkpoints into the lake's model store."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import Context, LakeOption, err, open_context, out
from etl.errors import DataError
from etl.settings import WeightsEntry

if TYPE_CHECKING:
    from etl.models.store import ModelStore
    from etl.models.weights.add import Added
    from etl.models.weights.verify import Checked

LINE_SECONDS = 10.0
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Weights of the catalog: 'groundlake models list'.")]


def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Weights of the catalog: 'groundlake models list'.")
    ],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licences that are printed, as a script must.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what the lake has already: mends damaged files.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Download upstream's checkpoints, convert them once and keep the result in the lake.

    What breaks off is gone on with by the same command. Proxies of the environment are used.

    For example:

        groundlake models pull ram-swin-large-14m groundingdino-swint-ogc sam-vit-h
    """
    from etl.models.weights.pull import pull as fetch

    context = open_context(lake)
    models = model_store(context)
    entries = [context.catalog.checkpoint(name) for name in dict.fromkeys(names)]
    wanted = []
    for entry in entries:
        stored = None if again else models.stored(entry.network)
        if stored:
            out.print(f"{entry.name}: in the lake already ({stored.digest[:12]})", markup=False)
        else:
            wanted.append(entry)
    _accept(wanted, accept_licence)
    for entry in wanted:
        with _bytes_shown() as progress:
            added = fetch(models, entry, _scratch(context), progress)
        if entry.source and not entry.source.revision:
            out.print(f"{entry.name}: the catalog pins no revision; 'main' of today was taken", markup=False)
        _say_added(models, entry, added)


def add(
    name: NameArgument,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER", help="Its files under upstream's names, or their folder.")
    ],
    lake: LakeOption = None,
) -> None:
    """Put a checkpoint that you have into the lake, without a network. The same again mends damaged files.

    For example:

        groundlake models add sam-vit-h sam_vit_h_4b8939.pth
    """
    from etl.models.weights.add import add as put

    context = open_context(lake)
    models, entry = model_store(context), context.catalog.checkpoint(name)
    out.print(f"{entry.name}: licence {entry.licence}", markup=False)
    with _bytes_shown() as progress:
        added = put(models, entry, files, _scratch(context), progress)
    _say_added(models, entry, added)


def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Weights of the catalog; else all that the lake has.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Check every stored file of weights against the sha256 it was added with. Exit code 65 when one differs.

    For example:

        groundlake models verify
    """
    from etl.models.store import WeightsAbsentError
    from etl.models.weights.verify import verify as check

    context = open_context(lake, reading=True)
    models = model_store(context)
    only = context.catalog.checkpoint(name) if name is not None else None
    with _bytes_shown() as progress:
        results = list(check(models, context.catalog.weights, only, progress))
    if only is not None and not results:
        raise WeightsAbsentError(only.network, models.store.uri)
    for result in results:
        out.print(f"{_label(result)}: {'; '.join(result.problems) or 'as it was added'}", markup=False)
    wrong = [_label(result) for result in results if result.problems]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(results)} weights in {models.store.uri} are not as added: {', '.join(wrong)}",
            remedy="the same files put back mend it: 'groundlake models add NAME FILE…' or 'models pull NAME --again' "
            "(weights of the package or of a folder: restore models/ of the lake from a backup)",
        )
    out.print(f"{len(results)} weights are as they were added", markup=False)


def model_store(context: Context) -> ModelStore:
    """The model store of a command's lake."""
    from etl.models.store import ModelStore

    return ModelStore(context.lake.store, context.lake.settings.scratch / "models")


def size_text(size: int | None) -> str:
    """Bytes for a reader.

    >>> size_text(5_625_634_877), size_text(41_904), size_text(None)
    ('5.6 GB', '42 kB', '?')
    """
    if size is None:
        return "?"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}" if size < 10 * factor else f"{size / factor:.0f} {unit}"
    return f"{size} B"


def _scratch(context: Context) -> Path:
    return context.lake.settings.scratch / "weights"


def _accept(entries: list[WeightsEntry], accepted: bool) -> None:
    from etl.models.weights.errors import LicenceError

    for entry in entries:
        known = [file.bytes for file in entry.files if file.bytes]
        size = (
            f"{size_text(sum(known))}{'' if len(known) == len(entry.files) else ' and more'}"
            if known
            else "size unknown"
        )
        files = ", ".join(file.name for file in entry.files)
        out.print(f"{entry.name}: {files}: {size}, licence {entry.licence}", markup=False)
    if not entries or accepted:
        return
    if not sys.stdin.isatty():
        raise LicenceError(
            "nobody is here to accept the licences above", remedy="read them, then pass --accept-licence"
        )
    if not typer.confirm("Do you accept these licences?"):
        raise LicenceError("the licences were not accepted: nothing is downloaded", remedy="ask who may accept them")


def _say_added(models: ModelStore, entry: WeightsEntry, added: Added) -> None:
    from etl.models.store import report_key

    report = added.report
    reasons = Counter(report["dropped"].values())
    dropped = f"{len(report['dropped'])} dropped" + "".join(f"; {n}: {reason}" for reason, n in reasons.most_common())
    out.print(f"{entry.name}: {len(report['renamed'])} keys renamed, {dropped}", markup=False)
    for kind in ("missing", "unexpected"):
        if report[kind]:
            out.print(f"{entry.name}: {kind}: {', '.join(report[kind])}", markup=False)
    for file in entry.files:
        if file.sha256 is None:
            out.print(f"{file.name}: sha256 {added.sources[file.name]} recorded, enforced from now on", markup=False)
    if added.earlier:
        out.print(
            f"{entry.name}: this groundlake converts the same files to {added.digest[:12]}; the lake keeps the earlier "
            f"conversion {added.earlier[:12]}, and results with it",
            markup=False,
        )
    digest = added.earlier or added.digest
    where = models.store.join(report_key(entry.family, digest))
    out.print(f"{entry.name}: in the lake, {size_text(added.bytes)}, {digest[:12]}; keys: {where}", markup=False)


def _label(result: Checked) -> str:
    stored = result.stored
    return stored.weights or f"{stored.family} {stored.digest[:12]}"


@contextmanager
def _bytes_shown() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show how many bytes of a file are done: a bar on a terminal, now and then a line in a log."""
    if not err.is_terminal:
        said, about = time.monotonic(), ""

        def say(name: str, done: int, total: int | None) -> None:
            nonlocal said, about
            if name != about or time.monotonic() - said > LINE_SECONDS:
                said, about = time.monotonic(), name
                err.print(f"{name}: {size_text(done)} of {size_text(total)}", markup=False)

        yield say
        return
    from rich import progress as rich

    how = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), rich.DownloadColumn())
    speed = (rich.TransferSpeedColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*how, *speed, console=err, transient=True) as bar:
        shown: tuple[str, rich.TaskID] | None = None

        def show(name: str, done: int, total: int | None) -> None:
            nonlocal shown
            if shown is None or shown[0] != name:
                if shown is not None:
                    bar.remove_task(shown[1])
                shown = (name, bar.add_task(name, total=total))
            bar.update(shown[1], completed=done, total=total)

        yield show
