"""``groundlake takedown``: forget pictures, for good."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.cli.common import Context, LakeOption, folding_table, open_context, out
from etl.errors import ConfigurationError, UnknownNameError

if TYPE_CHECKING:
    from etl.lake.takedown import Added, Holder, Progress, Request, Survey, Takedown

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Forget pictures, and keep them out.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("add")
def add(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for audits.")],
    url: Annotated[list[str] | None, typer.Option("--url", help="Every picture seen there.")] = None,
    image_id: Annotated[list[str] | None, typer.Option("--image-id", help="This picture.")] = None,
    sha256: Annotated[list[str] | None, typer.Option("--sha256", help="Bytes as downloaded or as stored.")] = None,
    listed: Annotated[
        list[Path] | None, typer.Option("--list", help="Text file of urls, image ids and sha256, one a line.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    later: Annotated[bool, typer.Option("--later", help="Only hide them; the next purge does the rest.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: a takedown cannot be undone.")] = False,
    lake: LakeOption = None,
) -> None:
    """Take pictures down: hidden at once, erased by the purge that follows, and never let in again.

    Options may be repeated. The same command, given again, resumes.

    For example:

        groundlake takedown add --url https://example.org/a.jpg --reason "asked by its owner" --dry-run

        groundlake takedown add --list ids.txt --reason "ticket 1234" --yes
    """
    from etl.lake import takedown

    targets = [takedown.target(takedown.URL, text) for text in url or ()]
    targets += [takedown.target(takedown.IMAGE_ID, text) for text in image_id or ()]
    targets += [takedown.target(takedown.SHA256, text) for text in sha256 or ()]
    targets += [one for path in listed or () for one in takedown.read_targets(path)]
    request = takedown.Request.of(targets, reason)
    context = open_context(lake)
    if dry_run:
        _show_survey(context, takedown.survey(context.lake, request))
        return
    _confirm(request, yes)
    _show_added(takedown.add(context.lake, request), hidden=True)
    if later:
        out.print("next: groundlake takedown purge")
        return
    _show_progress(context, _purge(context, everything=False))


@app.command("purge")
def purge(
    everything: Annotated[
        bool, typer.Option("--all", help="Also takedowns that were purged, as after a backup was restored.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Bring every takedown as far as it can come now. Safe at any time, beside anything, and twice at once.

    For example:

        groundlake takedown purge
    """
    context = open_context(lake)
    _show_progress(context, _purge(context, everything=everything))


@app.command("list")
def list_takedowns(as_json: JsonOption = False, lake: LakeOption = None) -> None:
    """Every takedown and how far it has come: requested (hidden), rewritten (rows and bytes gone), purged.

    For example:

        groundlake takedown list
    """
    from etl.lake import takedown

    context = open_context(lake)
    found = takedown.read_takedowns(context.lake)
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found]))
        return
    if not found:
        out.print("nothing was taken down")
        return
    shown = folding_table("takedown", "requested", "tombstones", "state", "since", "reason")
    for one in found:
        since = one.events[one.state].at if one.state in one.events else one.requested_at
        shown.add_row(
            one.takedown_id[:12], _time(one.requested_at), str(len(one.tombstones)), one.state, _time(since), one.reason
        )
    out.print(shown)
    _show_holders(context, _holders(context, [one for one in found if one.state != takedown.PURGED]))


@app.command("status")
def status(
    takedown_id: Annotated[str, typer.Argument(help="Its id, or the unique beginning of it.")],
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """What was done for a takedown, and what it waits for.

    For example:

        groundlake takedown status 0f3a
    """
    from etl.lake import takedown

    context = open_context(lake)
    found = takedown.read_takedowns(context.lake)
    matches = [one for one in found if one.takedown_id.startswith(takedown_id)]
    if len(matches) != 1:
        kind = "takedown (ambiguous)" if matches else "takedown"
        raise UnknownNameError(kind, takedown_id, [one.takedown_id for one in matches or found][:20])
    one = matches[0]
    orders = takedown.blocking_orders(context.lake, one) if one.state != takedown.PURGED else []
    if as_json:
        typer.echo(json.dumps(_as_json(one) | {"open_orders": orders}))
        return
    out.print(f"{one.takedown_id}: {one.state}, {len(one.tombstones)} tombstones, because: {one.reason}", markup=False)
    for name, event in one.events.items():
        out.print(f"  {name} {_time(event.at)}: {json.dumps(event.detail, sort_keys=True)}", markup=False)
    if one.state != takedown.PURGED:
        _show_waiting(context, one.state, orders, None)
        _show_holders(context, _holders(context, [one]))


def _purge(context: Context, *, everything: bool) -> list[Progress]:
    from etl.lake import takedown

    return takedown.purge(context.lake, everything=everything, tell=lambda step: out.print(f"  {step} …"))


def _confirm(request: Request, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "a takedown cannot be undone, and nobody is here to confirm it",
            remedy="look at it with --dry-run, then add --yes",
        )
    if not typer.confirm(f"Take {len(request.targets)} targets down? This cannot be undone."):
        raise typer.Exit


def _show_survey(context: Context, found: Survey) -> None:
    _show_added(found.found, hidden=False)
    shown = folding_table("table", "rows", "files", "older files")
    for effect in found.tables:
        shown.add_row(effect.table, f"{effect.rows:,}", f"{effect.files:,}", f"{effect.older_files:,}")
    if found.tables:
        out.print(shown)
    out.print(f"{len(found.tars)} tars, {sum(found.tars.values()):,} bytes to overwrite")
    _show_holders(context, found.manifests)
    out.print("nothing was changed; without --dry-run it is done")


def _show_added(found: Added, *, hidden: bool) -> None:
    done = ", hidden from now on" if hidden else ""
    out.print(f"takedown {found.takedown_id}: {found.images} images in {found.copies} stored copies{done}")
    for target in found.unknown:
        out.print(f"  not in the lake: {target.kind} {target.value}; it will not be let in", markup=False)


def _show_progress(context: Context, found: Sequence[Progress]) -> None:
    if not found:
        out.print("no takedown is pending")
    for one in found:
        rows, size = sum(one.rows.values()), sum(one.bytes.values())
        out.print(
            f"takedown {one.takedown.takedown_id}: {one.state}; {rows:,} rows removed now, {size:,} bytes are zeros"
        )
        _show_waiting(context, one.state, one.orders, one.until)
        _show_holders(context, one.manifests)


def _show_waiting(context: Context, state: str, orders: Sequence[str], until: datetime | None) -> None:
    from etl.lake.takedown import PURGED, REQUESTED

    if state == PURGED:
        return
    if orders:
        named = ", ".join(orders[:3]) + (", …" if len(orders) > 3 else "")
        out.print(f"  waits for {len(orders)} open orders to end, or to be swept: {named}")
    elif state == REQUESTED:
        out.print("  next: groundlake takedown purge")
    hours = context.lake.settings.purge_hours
    when = f"from {_time(until + timedelta(minutes=1))} on" if until else f"{hours:g} hours after that"
    out.print(f"  {when} the next purge deletes the files of older versions")


def _holders(context: Context, takedowns: Sequence[Takedown]) -> list[Holder]:
    from etl.lake import takedown

    return takedown.holders(context.lake, set().union(*(one.values("image_id") for one in takedowns)))


def _show_holders(context: Context, found: Sequence[Holder]) -> None:
    for one in found:
        fate = "the purge removes it" if one.inside else "outside the lake: remove it yourself"
        out.print(f"  manifest {one.folder} holds {len(one.images)} of them; {fate}. Without them:", markup=False)
        out.print(f"    {_rebuild(context, one)}", markup=False)


def _rebuild(context: Context, one: Holder) -> str:
    """The command that builds a manifest again: by its name where the catalog has it, else all that it was built of."""
    place = [] if one.inside else ["--out", str(one.folder.parent.parent)]
    spec = one.spec
    if one.name in context.catalog.manifests:
        return shlex.join(["groundlake", "manifest", "build", one.name, *place])
    options = [part for key, value in spec["options"].items() for part in ("--option", f"{key}={json.dumps(value)}")]
    shares = ",".join(f"{split}={share}" for split, share in spec["split"]["shares"].items())
    given = ["--name", one.name, "--format", spec["format"], "--sql", spec["sql"], "--split", shares]
    return shlex.join(["groundlake", "manifest", "build", *given, *options, *place])


def _as_json(one: Takedown) -> dict[str, object]:
    return {
        "takedown_id": one.takedown_id,
        "state": one.state,
        "reason": one.reason,
        "requested_at": one.requested_at.isoformat(),
        "tombstones": [[stone.kind, stone.value] for stone in sorted(one.tombstones)],
        "events": {name: {"at": event.at.isoformat(), **event.detail} for name, event in one.events.items()},
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
