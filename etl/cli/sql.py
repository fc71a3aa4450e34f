"""``groundlake sql``: ask the lake."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import LakeOption, err, open_context, out
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from etl.lake import Lake, Snapshot

_TABLE_ROWS = 50
_OF_VIEWS = {
    "source": "source of the picture's canonical copy",
    "planned_at": "when the shard of the canonical copy was planned",
}


class OutputFormat(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def sql(
    query: Annotated[str | None, typer.Argument(help="One SELECT.")] = None,
    fmt: Annotated[OutputFormat, typer.Option("--format", help="How rows are printed.")] = OutputFormat.table,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help=f"Rows at most [default: {_TABLE_ROWS} as a table, else all].")
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="List the views and their columns.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", metavar="DATE[THH:MM[Z]]", help="The lake as it was then (UTC unless said).")
    ] = None,
    manifest: Annotated[
        str | None, typer.Option("--manifest", metavar="NAME[/VERSION]", help="What this manifest was built from.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Run one SELECT over the lake. Views show complete units of the current annotators; nothing can be changed.

    With --at or --manifest they show an older state, without the pictures that were taken down since. Dates reach back
    GROUNDLAKE_RETENTION_DAYS; what a manifest was built from stays readable as long as the manifest is registered.

    For example:

        groundlake sql --tables

        groundlake sql "select label, count(*) from instances group by 1 order by 2 desc"

        groundlake sql --format csv "select url, error from downloads where status = 'failed'" > failed.csv

        groundlake sql --at 2026-11-01T12:00 "select count(*) from images"

        groundlake sql --manifest mine "select count(*) from images"
    """
    if not tables and not (query or "").strip():
        raise ConfigurationError("no SQL given", remedy='groundlake sql "select count(*) from images", or --tables')
    snapshot = _snapshot(open_context(lake, reading=True).lake, at, manifest)
    if tables or query is None:
        _print_views(snapshot)
        return
    if limit is None and fmt is OutputFormat.table:
        limit = _TABLE_ROWS
    rows = _rows(snapshot, query, limit)
    columns = next(rows)
    try:
        {OutputFormat.table: _print_table, OutputFormat.csv: _print_csv, OutputFormat.jsonl: _print_jsonl}[fmt](
            columns, rows
        )
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _snapshot(lake: Lake, at: str | None, manifest: str | None) -> Snapshot:
    from etl.lake import Snapshot
    from etl.lake.pins import manifest_versions

    if at is not None and manifest is not None:
        raise ConfigurationError("both --at and --manifest are given", remedy="name one of them")
    if manifest is not None:
        name, _, version = manifest.partition("/")
        return Snapshot.take(lake, manifest_versions(lake, name, version or None))
    return Snapshot.take(lake, at=None if at is None else _date(at))


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--at {text!r} is no date: {error}", remedy="write 2026-11-01, 2026-11-01T12:00 or 2026-11-01T12:00+02:00"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _rows(snapshot: Snapshot, query: str, limit: int | None) -> Iterator[Sequence[Any]]:
    """The column names, then the rows, a batch at a time."""
    from etl.lake.engine import check_select, query_errors

    with snapshot.connect(sandbox=True) as connection:
        check_select(connection, query)
        with query_errors():
            result = connection.execute(query)
            yield [column[0] for column in result.description]
            left = limit
            while batch := result.fetchmany(1000):
                yield from batch if left is None else batch[:left]
                left = None if left is None else max(0, left - len(batch))
                if left == 0:
                    if len(batch) > (limit or 0) or result.fetchone() is not None:
                        err.print(f"only the first {limit} rows are shown; see --limit and --format")
                    return


def _print_table(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for column in columns:
        shown.add_column(Text(column), overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if value is None else str(value)) for value in row))
    out.print(shown)


def _print_csv(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_json(value) if isinstance(value, list | dict) else value for value in row])


def _print_jsonl(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    for row in rows:
        sys.stdout.write(_json(dict(zip(columns, row, strict=True))) + "\n")


def _json(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _print_views(snapshot: Snapshot) -> None:
    from rich.table import Table

    from etl.lake.schemas import TABLES
    from etl.lake.views import ROWS

    with snapshot.connect() as connection:
        columns = connection.execute(
            "select table_name, column_name, data_type from information_schema.columns "
            "where table_schema = 'main' order by table_name, ordinal_position"
        ).fetchall()
    known = list(TABLES)
    for view in sorted(
        dict.fromkeys(row[0] for row in columns), key=lambda v: known.index(v) if v in known else len(known)
    ):
        table = TABLES.get(view.removeprefix("all_"), TABLES["images"])  # the view of no table lists images
        docs = _OF_VIEWS | {one.name: one.doc for one in table.columns}
        shown = Table(title=f"{view}: one row per {ROWS.get(view, table.row)}", title_justify="left")
        for head in ("column", "type", "meaning"):
            shown.add_column(head)
        for _, column, kind in (row for row in columns if row[0] == view):
            shown.add_row(column, kind.lower(), docs[column])
        out.print(shown, markup=False)
    out.print("raw.<table> holds all rows as written, those of incomplete and replaced units too")
