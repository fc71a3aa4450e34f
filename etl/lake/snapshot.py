"""A consistent, pinned look at all tables, and SQL over it.

DuckDB reads the file lists of pinned Delta versions: measured to answer right where pyarrow datasets do not, and to
stay within a memory limit by spilling.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import DataError
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.lake.schemas import TABLES
from etl.lake.views import VIEWS

# Whatever these show complete has its rows in the tables opened after them.
_FIRST = ("outcomes", "downloads")


class QueryError(DataError):
    """The SQL is not one SELECT, or DuckDB refuses it."""


@dataclass(frozen=True)
class Snapshot:
    """Tables at fixed versions, and the files those versions name."""

    lake: Lake
    versions: Mapping[str, int]
    files: Mapping[str, list[str]]

    @classmethod
    def take(cls, lake: Lake, versions: Mapping[str, int] | None = None) -> Snapshot:
        """Pin every table, at its latest or the given versions.

        Raises:
            ConfigurationError: A version can no longer be opened.
        """
        pinned: dict[str, int] = {}
        files: dict[str, list[str]] = {}
        for name in (*_FIRST, *(name for name in TABLES if name not in _FIRST)):
            table = lake.table(name, versions[name] if versions else None)
            paths = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
            pinned[name] = table.version()
            # Paths in the log are percent-encoded, as is the whole of file_uris(), the lake's own folder included;
            # DuckDB takes what it is given as the file's name.
            files[name] = [lake.store.join(f"{table_key(name)}/{unquote(path)}") for path in paths]
        return cls(lake, pinned, files)

    @contextmanager
    def connect(self, *, sandbox: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection with the views; its spill folder goes when it is closed.

        Args:
            sandbox: For SQL of users: no other file, no extension, no setting can be reached.
        """
        scratch = self.lake.settings.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sql-", dir=scratch))
        try:
            with duckdb.connect() as connection:
                connection.execute(f"set memory_limit='{self.lake.settings.sql_memory}'")
                connection.execute(f"set temp_directory={_quoted(str(folder / 'spill'))}")
                connection.execute("set TimeZone='UTC'; set enable_progress_bar=false; set threads=2")
                if options := self.lake.store.delta_options():
                    _reach_s3(connection, options)
                allowed = self._tables(connection, folder)
                connection.execute(VIEWS)
                if sandbox:
                    connection.execute(f"set allowed_paths={_list(allowed)}")
                    connection.execute(f"set allowed_directories={_list([str(folder / 'spill')])}")
                    connection.execute("set enable_external_access=false; set lock_configuration=true")
                yield connection
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _tables(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
        connection.execute("create schema raw")
        allowed: list[str] = []
        for name, table in TABLES.items():
            empty = folder / f"{name}.parquet"  # supplies columns that older files lack, and the schema of no files
            pq.write_table(table.schema.empty_table(), empty)
            files = [str(empty), *self.files[name]]
            allowed += files
            source = f"read_parquet({_list(files)}, union_by_name=true, hive_partitioning=false)"
            connection.execute(f"create view raw.{name} as select * from {source}")  # noqa: S608
        return allowed

    def sql(self, query: str) -> pa.Table:
        """The result of a user's SELECT over the views.

        Raises:
            QueryError: It is not exactly one SELECT, or DuckDB refuses it.
        """
        with self.connect(sandbox=True) as connection:
            check_select(connection, query)
            try:
                return connection.sql(query).to_arrow_table()
            except duckdb.Error as error:
                raise QueryError(f"the SQL failed: {error}", remedy="see 'groundlake sql --tables'") from error


def _reach_s3(connection: duckdb.DuckDBPyConnection, options: Mapping[str, str]) -> None:
    """Let a connection read from S3, with the credentials and endpoint that delta-rs is given."""
    package = resources.files("duckdb_extension_httpfs") / "extensions" / f"v{duckdb.__version__}"
    connection.execute(f"load {_quoted(str(package / 'httpfs.duckdb_extension'))}")  # never downloaded
    given = {
        "key_id": options.get("AWS_ACCESS_KEY_ID"),
        "secret": options.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": options.get("AWS_SESSION_TOKEN"),
        "region": options.get("AWS_REGION"),
    }
    if endpoint := options.get("AWS_ENDPOINT_URL"):
        scheme, _, host = endpoint.partition("://")
        given |= {"endpoint": host.rstrip("/"), "url_style": "path", "use_ssl": str(scheme == "https").lower()}
    fields = ", ".join(f"{name} {_quoted(value)}" for name, value in given.items() if value)
    connection.execute(f"create secret (type s3, {fields})")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(text) for text in texts) + "]"


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
