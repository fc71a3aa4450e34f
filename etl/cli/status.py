"""``groundlake status``: where every url and picture stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import LakeOption, open_context, out
from etl.errors import UnknownNameError

if TYPE_CHECKING:
    from etl.ingest.counts import IngestCounts
    from etl.lake.ledger import SourceState


def status(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    shards: Annotated[bool, typer.Option("--shards", help="Also one line per shard.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Sources, shards and stages by outcome: every url and every image is counted exactly once.

    For example:

        groundlake status

        groundlake status --source news --shards
    """
    from etl.ingest.counts import source_counts
    from etl.lake import Snapshot
    from etl.lake.ledger import read_ledger

    snapshot = Snapshot.take(open_context(lake, reading=True).lake)
    states = read_ledger(snapshot, source)
    if source and not states:
        raise UnknownNameError(
            "source", source, [one.source for one in read_ledger(snapshot)], remedy="groundlake ingest run"
        )
    urls = {one.source: source_counts(snapshot, one.source) for one in states}
    if as_json:
        typer.echo(json.dumps([_content(one, urls[one.source], shards) for one in states], default=str))
        return
    if not states:
        out.print("no source yet; next: groundlake ingest run --urls urls.parquet --source mine")
    for one in states:
        _show(one, urls[one.source])
        if shards:
            _show_shards(one)


def _content(state: SourceState, urls: IngestCounts, shards: bool) -> dict[str, Any]:
    content = {
        "source": state.source,
        "urls": asdict(urls),
        "shards": {"open": state.open_shards, "done": len(state.shards) - state.open_shards},
        "open_urls": state.open_urls,
        "images": state.images,
        "stages": [{**asdict(one), "images": one.images} for one in state.stages],
    }
    if shards:
        content["shard_list"] = [asdict(one) for one in state.shards]
    return content


def _show(state: SourceState, urls: IngestCounts) -> None:
    from rich.table import Table

    done = len(state.shards) - state.open_shards
    waiting = f", {state.open_urls} urls in open shards" if state.open_urls else ""
    out.print(f"[bold]{state.source}[/]: {done} shards done, {state.open_shards} open{waiting}")
    out.print(f"  {urls.n_urls} urls settled: {urls.ok} ok, {urls.duplicate} duplicate, {_failed(urls.failed)}")
    shown = Table(title=f"{state.images} images", title_justify="left")
    for column in ("stage", "model", "ok", "empty", "failed", "pending"):
        shown.add_column(column, justify="left" if column in ("stage", "model") else "right", overflow="fold")
    for one in state.stages:
        model = (one.model or "-") + (" (untrained weights)" if one.untrained else "")
        shown.add_row(one.stage, model, str(one.ok), _reasons(one.empty), _reasons(one.failed), str(one.pending))
    out.print(shown)


def _failed(by_class: Mapping[str, int]) -> str:
    classes = ", ".join(f"{name} {count}" for name, count in sorted(by_class.items(), key=lambda item: -item[1]))
    return f"{sum(by_class.values())} failed" + (f" ({classes})" if classes else "")


def _reasons(counts: Mapping[str, int]) -> str:
    if not counts:
        return "0"
    return "\n".join(f"{reason or 'unknown'} {count}" for reason, count in sorted(counts.items()))


def _show_shards(state: SourceState) -> None:
    from rich.table import Table

    shown = Table(title=f"shards of {state.source}", title_justify="left")
    columns: Sequence[str] = ("shard", "attempt", "state", "urls", "failed", "images", "pending")
    for column in columns:
        shown.add_column(column, justify="left" if column in ("shard", "state", "pending") else "right")
    for one in state.shards:
        pending = ", ".join(f"{stage} {count}" for stage, count in one.pending.items()) or "0"
        told = "done" if one.settled else "open"
        numbers = (str(one.urls), str(one.failed_urls), str(one.images))
        shown.add_row(one.shard_id[:12], str(one.attempt), told, *numbers, pending)
    out.print(shown)
