"""DuckDB as the lake uses it: one connection per question, bounded memory, no way out for a user's SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import duckdb

from etl.errors import DataError

# What the place may do to any query, a user's or ours; not a mistake in its SQL.
PLACE_ERRORS = (duckdb.IOException, duckdb.OutOfMemoryException)


class QueryError(DataError):
    """The SQL is not one SELECT, or DuckDB refuses it."""


@contextmanager
def query_errors() -> Iterator[None]:
    """Turn what DuckDB raises on a user's SQL into a QueryError; what the place did is left to the connection.

    Raises:
        QueryError: DuckDB refuses the SQL.
    """
    try:
        yield
    except PLACE_ERRORS:
        raise
    except duckdb.Error as error:
        raise QueryError(f"the SQL failed: {error}", remedy="see 'groundlake sql --tables'") from error


def check_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse all but one SELECT: COPY, also below EXPLAIN ANALYZE, could overwrite a committed file in the sandbox.

    Raises:
        QueryError: It is anything else.
    """
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(f"this is not SQL: {error}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise QueryError(f"expected exactly one SELECT, got {kinds}", remedy="the lake is read-only to SQL")


def set_up(connection: duckdb.DuckDBPyConnection, *, memory: str, spill: Path, s3: Mapping[str, str] | None) -> None:
    """Bound a connection's memory, say where it spills, and let it read from S3 with delta-rs's options."""
    connection.execute(f"set memory_limit='{memory}'")
    connection.execute(f"set temp_directory={quoted(str(spill))}")
    connection.execute("set TimeZone='UTC'; set enable_progress_bar=false; set threads=2")
    if s3:
        _reach_s3(connection, s3)


def lock_up(connection: duckdb.DuckDBPyConnection, *, files: Iterable[str], spill: Path) -> None:
    """Leave a user's SQL nothing but these files: no other file, no extension, no setting can be reached."""
    connection.execute(f"set allowed_paths={listed(files)}")
    connection.execute(f"set allowed_directories={listed([str(spill)])}")
    connection.execute("set enable_external_access=false; set lock_configuration=true")


def _reach_s3(connection: duckdb.DuckDBPyConnection, options: Mapping[str, str]) -> None:
    package = resources.files("duckdb_extension_httpfs") / "extensions" / f"v{duckdb.__version__}"
    connection.execute(f"load {quoted(str(package / 'httpfs.duckdb_extension'))}")  # never downloaded
    given = {
        "key_id": options.get("AWS_ACCESS_KEY_ID"),
        "secret": options.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": options.get("AWS_SESSION_TOKEN"),
        "region": options.get("AWS_REGION"),
    }
    if endpoint := options.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.partition("://")
        given |= {"endpoint": host.rstrip("/"), "url_style": "path", "use_ssl": str(scheme == "https").lower()}
    fields = ", ".join(f"{name} {quoted(value)}" for name, value in given.items() if value)
    connection.execute(f"create secret (type s3, {fields})")


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Iterable[str]) -> str:
    """A SQL list of string literals."""
    return "[" + ", ".join(quoted(text) for text in texts) + "]"
