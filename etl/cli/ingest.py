"""``groundlake ingest``: url lists into the lake."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import Context, LakeOption, open_context, out
from etl.cli.progress import counted
from etl.errors import ConfigurationError, DataError
from etl.settings import Source
from etl.settings.catalog import validated

if TYPE_CHECKING:
    from etl.ingest.counts import IngestCounts
    from etl.ingest.planning import IngestPlan

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Download url lists into the lake.")

UrlsOption = Annotated[
    Path | None,
    typer.Option("--urls", help="A url list of your own: .parquet, .csv, .tsv, .jsonl or .txt (one url a line)."),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Source of the catalog; with --urls, the name your list gets.")
]
UrlColumnOption = Annotated[str | None, typer.Option("--url-col", help="Column with the urls [default: url].")]
CaptionColumnOption = Annotated[
    str | None, typer.Option("--caption-col", help="Column with the captions [default: none].")
]
ShardSizeOption = Annotated[
    int | None, typer.Option("--shard-size", min=1, max=10_000, help="Urls per shard [default: 10000].")
]
PrivateOption = Annotated[
    bool,
    typer.Option("--allow-private-addresses", help="Let downloads reach loopback and private networks (refused else)."),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Also urls that failed for a passing reason: time-out, DNS, 429, 5xx.")
]
RequestOption = Annotated[
    str | None, typer.Option("--request", help="Name of the request; the same name plans the same shards again.")
]


@app.command("run")
def run(
    urls: UrlsOption = None,
    source: SourceOption = None,
    url_col: UrlColumnOption = None,
    caption_col: CaptionColumnOption = None,
    shard_size: ShardSizeOption = None,
    allow_private_addresses: PrivateOption = False,
    retry_failed: RetryOption = False,
    request: RequestOption = None,
    lake: LakeOption = None,
) -> None:
    """Plan a source, download its shards with img2dataset and settle every url.

    Stopped or killed, run it again: it resumes at the next shard. A second run fetches only urls that are new.

    For example:

        groundlake ingest run --urls urls.parquet --url-col url --caption-col caption --source mine

        groundlake ingest run --urls urls.txt --source mine

        groundlake ingest run --source news --retry-failed
    """
    from etl.ingest.counts import shard_counts, source_counts
    from etl.ingest.planning import make_plan
    from etl.ingest.shard import ingest_shard
    from etl.lake import Snapshot

    context = open_context(lake)
    chosen = _source(context, urls, source, url_col, caption_col, shard_size, allow_private_addresses)
    plan = make_plan(context.lake, chosen, request or _request_name(), retry_failed=retry_failed)
    _say_plan(plan)
    for number, ref in enumerate(plan.refs, start=1):
        with counted(f"shard {number} of {len(plan.refs)}", "urls") as progress:
            ingest_shard(context.lake, ref, progress)
    snapshot = Snapshot.take(context.lake)
    total = source_counts(snapshot, chosen.name)
    if not plan.refs:
        _show(chosen.name, {"all": total})
        return
    done = shard_counts(snapshot, [(ref.shard_id, ref.attempt) for ref in plan.refs])
    _show(chosen.name, {"this run": done, "all": total})
    _refuse_all_dead(done)


@app.command("plan")
def plan(
    urls: UrlsOption = None,
    source: SourceOption = None,
    url_col: UrlColumnOption = None,
    caption_col: CaptionColumnOption = None,
    shard_size: ShardSizeOption = None,
    allow_private_addresses: PrivateOption = False,
    retry_failed: RetryOption = False,
    request: RequestOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    lake: LakeOption = None,
) -> None:
    """Cut what is new in a source into shards, and print the shards to download.

    For example:

        groundlake ingest plan --source news

        groundlake ingest plan --source news --request nightly-2026-01-31 --json
    """
    from etl.ingest.planning import make_plan

    context = open_context(lake)
    chosen = _source(context, urls, source, url_col, caption_col, shard_size, allow_private_addresses)
    made = make_plan(context.lake, chosen, request or _request_name(), retry_failed=retry_failed)
    if as_json:
        content: dict[str, Any] = {
            "source": made.source,
            "request": made.request,
            "listed": made.listed,
            "list_duplicates": made.list_duplicates,
            "planned": made.planned,
            "shards": [{"shard_id": ref.shard_id, "attempt": ref.attempt} for ref in made.refs],
        }
        typer.echo(json.dumps(content))
        return
    _say_plan(made)
    for ref in made.refs:
        out.print(f"groundlake ingest shard --shard {ref.shard_id} --attempt {ref.attempt}")


@app.command("shard")
def shard(
    shard: Annotated[str, typer.Option("--shard", help="Id of a planned shard, or its unique beginning.")],
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Attempt; the latest by default.")] = None,
    lake: LakeOption = None,
) -> None:
    """Download one planned shard: what Airflow and pods run. Done already means done.

    Exit codes: 0 done, 75 try again (nothing was stored), 65 bad data, 78 bad configuration.

    For example:

        groundlake ingest shard --shard 3f2a --attempt 1
    """
    from etl.ingest.shard import ingest_shard
    from etl.ingest.shards import find_shard
    from etl.lake import Snapshot

    context = open_context(lake)
    found = find_shard(Snapshot.take(context.lake), shard, attempt)
    with counted(f"shard {found.ref.shard_id[:8]} of {found.ref.source}", "urls") as progress:
        counts = ingest_shard(context.lake, found.ref, progress)
    _show(found.ref.source, {f"shard {found.ref.shard_id[:8]}": counts})


def _source(
    context: Context,
    urls: Path | None,
    name: str | None,
    url_col: str | None,
    caption_col: str | None,
    shard_size: int | None,
    private: bool,
) -> Source:
    """The source the options name: one of the catalog, or the list of ``--urls``."""
    if name is None:
        raise ConfigurationError("--source is missing", remedy="name a source of the catalog, or your list's new name")
    if urls is None:
        given = {"--url-col": url_col, "--caption-col": caption_col, "--shard-size": shard_size}
        extra = [option for option, value in given.items() if value is not None]
        extra += ["--allow-private-addresses"] if private else []
        found = context.catalog.source(name)
        if extra:
            raise ConfigurationError(
                f"{', '.join(extra)} only goes with --urls; source {name!r} is described in the catalog",
                remedy=f"set it in the catalog's file of {name!r}",
            )
        return found
    if name in context.catalog.sources:
        raise ConfigurationError(
            f"source {name!r} is described in the catalog, with a list of its own",
            remedy="leave out --urls, or give your list another name",
        )
    content = {
        "name": name,
        "uri": str(urls.expanduser().resolve()),
        "url_column": url_col or "url",
        "caption_column": caption_col,
        "download": {"allow_private_addresses": private},
        **({"shard_size": shard_size} if shard_size else {}),
    }
    return validated(Source, content, "--source and --urls")


def _request_name() -> str:
    import uuid

    return f"cli-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def _say_plan(plan: IngestPlan) -> None:
    repeated = f" ({plan.list_duplicates} repeated rows dropped)" if plan.list_duplicates else ""
    if not plan.refs:
        out.print(f"{plan.source}: {plan.listed} urls listed{repeated}, all of them settled: nothing to download")
        return
    out.print(
        f"{plan.source}: {plan.listed} urls listed{repeated}, {plan.planned} of them new; "
        f"shards to download: {len(plan.refs)} (request {plan.request})"
    )


def _show(source: str, columns: dict[str, IngestCounts]) -> None:
    """One row per outcome, one column per set of urls."""
    from rich.table import Table

    table = Table(title=f"urls of {source}", title_justify="left")
    table.add_column("outcome")
    for name in columns:
        table.add_column(name, justify="right")
    classes = sorted({error_class for counts in columns.values() for error_class in counts.failed})
    table.add_row("ok", *(str(counts.ok) for counts in columns.values()))
    table.add_row("duplicate", *(str(counts.duplicate) for counts in columns.values()))
    for error_class in classes:
        table.add_row(f"failed: {error_class}", *(str(c.failed.get(error_class, 0)) for c in columns.values()))
    table.add_section()
    table.add_row("all", *(str(counts.n_urls) for counts in columns.values()))
    out.print(table)


def _refuse_all_dead(counts: IngestCounts) -> None:
    if counts.ok or counts.duplicate or not counts.n_urls:
        return
    from etl.ingest.failures import BLOCKED, is_retryable

    by_class = ", ".join(f"{number} {name}" for name, number in counts.failed.items())
    if BLOCKED in counts.failed:
        remedy = "if the pictures lie in your own network: --allow-private-addresses --retry-failed"
    elif any(is_retryable(name) for name in counts.failed):
        remedy = "check the network, then run it again with --retry-failed"
    else:
        remedy = "check the list: groundlake sql \"select url, error from downloads where status = 'failed'\""
    raise DataError(f"all urls dead: none of {counts.n_urls} gave a picture ({by_class})", remedy=remedy)
