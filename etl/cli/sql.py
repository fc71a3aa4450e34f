"""``groundlake sql``: ask the lake."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.cli.common import LakeOption, err, open_context, out
from etl.errors import ConfigurationError

if TYPE_CHECKING:
    from etl.lake import Snapshot

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
    lake: LakeOption = None,
) -> None:
    """Run one SELECT over the lake. Views show complete units of the current annotators; nothing can be changed.

    For example:

        groundlake sql --tables

        groundlake sql "select label, count(*) from instances group by 1 order by 2 desc"

        groundlake sql --format csv "select url, error from downloads where status = 'failed'" > failed.csv
    """
    from etl.lake import Snapshot

    if not tables and not (query or "").strip():
        raise ConfigurationError("no SQL given", remedy='groundlake sql "select count(*) from images", or --tables')
    snapshot = Snapshot.take(open_context(lake).lake)
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


def _rows(snapshot: Snapshot, query: str, limit: int | None) -> Iterator[Sequence[Any]]:
    """The column names, then the rows, a batch at a time."""
    from duckdb import Error

    from etl.lake.snapshot import QueryError, check_select

    with snapshot.connect(sandbox=True) as connection:
        check_select(connection, query)
        try:
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
        except Error as error:
            raise QueryError(f"the SQL failed: {error}", remedy="see 'groundlake sql --tables'") from error


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

    with snapshot.connect() as connection:
        columns = connection.execute(
            "select table_name, column_name, data_type from information_schema.columns "
            "where table_schema = 'main' order by table_name, ordinal_position"
        ).fetchall()
    known = list(TABLES)
    for view in sorted(
        dict.fromkeys(row[0] for row in columns), key=lambda v: known.index(v) if v in known else len(known)
    ):
        table = TABLES.get(view.removeprefix("all_"))
        docs = {one.name: one.doc for one in table.columns} if table else {}
        scope = ", of every annotator" if view.startswith("all_") else ""
        shown = Table(title=f"{view}: one row per {table.row if table else 'image'}{scope}", title_justify="left")
        for head in ("column", "type", "meaning"):
            shown.add_column(head)
        for _, column, kind in (row for row in columns if row[0] == view):
            shown.add_row(column, kind.lower(), docs.get(column, _OF_VIEWS.get(column, "")))
        out.print(shown, markup=False)
    out.print("raw.<table> holds all rows as written, those of incomplete and replaced units too")
