"""A consistent, pinned look at all tables, and SQL over it.

DuckDB reads the file lists of pinned Delta versions: measured to answer right where pyarrow datasets do not, and to
stay within a memory limit by spilling.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import ConfigurationError, DataError, GroundlakeError, RetryableError, UnknownNameError
from etl.lake.engine import PLACE_ERRORS, QueryError, check_select, listed, lock_up, query_errors, set_up
from etl.lake.lake import Lake
from etl.lake.parts import data_paths, table_key
from etl.lake.remaps import Remap, read_remaps, resolve
from etl.lake.schemas import TABLES
from etl.lake.timeline import ALWAYS_LATEST, SHOWING, check_versions, removed_rows, versions_at
from etl.lake.views import VIEWS

__all__ = ["QueryError", "Snapshot", "check_select", "query_errors"]
_TRIES = 10
# Whatever the first show as complete has its rows in the tables opened after them. Tombstones come last: whatever a
# takedown has removed from the tables opened before has its tombstone there.
_ORDER = (*SHOWING, *(name for name in TABLES if name not in (*SHOWING, *ALWAYS_LATEST)), *ALWAYS_LATEST)


@dataclass(frozen=True)
class Snapshot:
    """Tables at fixed versions, and the files that hold the rows of those versions today.

    Attributes:
        lake: The lake.
        versions: Version per table; a table that an older lake lacks is absent.
        files: Full uris per table.
        past: Whether an older state was asked for.
    """

    lake: Lake
    versions: Mapping[str, int]
    files: Mapping[str, list[str]]
    past: bool = False

    @classmethod
    def take(cls, lake: Lake, versions: Mapping[str, int] | None = None, *, at: datetime | None = None) -> Snapshot:
        """Pin every table: at its latest, or as it was.

        In any older state pictures taken down since are absent: tombstones are read at their latest, and files that a
        takedown replaced are read as it left them.

        Args:
            lake: The lake.
            versions: Versions of tables, such as those a manifest's lock names; others are taken at their latest.
            at: A date with a time zone, instead.

        Raises:
            RetentionError: The state is older than the retention and pinned by no built manifest.
            ConfigurationError: There was no such state, or both versions and a date are given.
            RetryableError: Rows were removed from the lake again and again meanwhile.
        """
        if at is not None and versions is not None:
            raise ConfigurationError("both versions and a date are given", remedy="name one of them")
        if unknown := sorted(set(versions or ()) - set(TABLES)):
            raise UnknownNameError("table", unknown[0], list(TABLES))
        if at is not None:
            return cls._open(lake, versions_at(lake, at), past=True)
        if versions:
            check_versions(lake, versions)
            return cls._open(lake, versions, past=True)
        for _ in range(_TRIES):
            snapshot = cls._open(lake, {}, past=False)
            if not snapshot._outcomes_went():
                return snapshot
        raise RetryableError(
            f"rows were removed from the lake at each of {_TRIES} looks at it",
            remedy="run the command again once 'groundlake lake gc' has ended",
        )

    @classmethod
    def _open(cls, lake: Lake, versions: Mapping[str, int], *, past: bool) -> Snapshot:
        remaps: Mapping[str, Remap] = read_remaps(lake) if past else {}
        pinned: dict[str, int] = {}
        files: dict[str, list[str]] = {}
        for name in filter(lake.has, _ORDER):
            table = lake.table(name, None if name in ALWAYS_LATEST else versions.get(name))
            pinned[name] = table.version()
            # DuckDB takes what it is given as the file's name, so neither the lake's folder nor the path is encoded.
            paths = resolve(data_paths(table), remaps.get(name, {}))
            files[name] = [lake.store.join(f"{table_key(name)}/{path}") for path in paths]
        return cls(lake, pinned, files, past)

    def _outcomes_went(self) -> bool:
        """Whether outcomes that are seen here were removed since: their rows may have gone before they were pinned."""
        return any(
            removed_rows(self.lake, name, version)
            for name in SHOWING
            for version in range(self.versions[name] + 1, self.lake.table(name).version() + 1)
        )

    @contextmanager
    def connect(self, *, sandbox: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection with the views; its spill folder goes when it is closed.

        Args:
            sandbox: For SQL of users: no other file, no extension, no setting can be reached.

        Raises:
            RetryableError: While it was used, a file went or could not be read, or memory or disk ran out.
            DataError: A file that the lake or the older state needs is gone or broken.
        """
        scratch = self.lake.settings.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sql-", dir=scratch))
        spill = folder / "spill"
        try:
            with duckdb.connect() as connection:
                options = self.lake.store.delta_options()
                set_up(connection, memory=self.lake.settings.sql_memory, spill=spill, s3=options)
                allowed = self._tables(connection, folder)
                connection.execute(VIEWS)
                if sandbox:
                    lock_up(connection, files=allowed, spill=spill)
                yield connection
        except duckdb.Error as error:
            typed = self._typed(error)
            if typed is None:
                raise
            raise typed from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _tables(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> list[str]:
        connection.execute("create schema raw")
        allowed: list[str] = []
        for name, table in TABLES.items():
            empty = folder / f"{name}.parquet"  # supplies columns that older files lack, and the schema of no files
            pq.write_table(table.schema.empty_table(), empty)
            files = [str(empty), *self.files.get(name, [])]
            allowed += files
            # Where files differ in their columns, DuckDB must look into each one before it can begin.
            differ = any(column.since > table.since for column in table.columns)
            source = f"read_parquet({listed(files)}, union_by_name={differ}, hive_partitioning=false)"
            connection.execute(f"create view raw.{name} as select * from {source}")  # noqa: S608
        return allowed

    def sql(self, query: str) -> pa.Table:
        """The result of a user's SELECT over the views.

        Raises:
            QueryError: It is not exactly one SELECT, or DuckDB refuses it.
            RetryableError: See ``connect``.
            DataError: See ``connect``.
        """
        with self.connect(sandbox=True) as connection:
            check_select(connection, query)
            with query_errors():
                return connection.sql(query).to_arrow_table()

    def _typed(self, error: duckdb.Error) -> GroundlakeError | None:
        """What an error of DuckDB means where it is not about the SQL: a file of ours, memory, disk or network."""
        for name, files in self.files.items():
            for file in files:
                key = file.removeprefix(self.lake.store.join(""))
                if key in str(error):  # of an address on S3 the message may show another beginning
                    gone = self.lake.store.stat(key) is None
                    return self._gone(name, key) if gone else _unreadable(file, error)
        if isinstance(error, PLACE_ERRORS):
            return RetryableError(
                f"the SQL engine failed: {error}",
                remedy="raise GROUNDLAKE_SQL_MEMORY, or free space in GROUNDLAKE_SCRATCH, where it spills",
            )
        return None

    def _gone(self, name: str, key: str) -> GroundlakeError:
        path = key.removeprefix(table_key(name) + "/")
        what = f"file {key} of table {name!r} at version {self.versions[name]} is gone"
        if path in data_paths(self.lake.table(name)):
            return DataError(f"{what}, though the latest version names it", remedy="run 'groundlake lake check'")
        if not self.past or path in read_remaps(self.lake).get(name, {}):
            return RetryableError(
                f"{what}: vacuum or a takedown's purge deleted it while this ran",
                remedy="run the command again: it reads what took its place",
            )
        return DataError(
            f"{what}: vacuum deleted it, with a shorter retention than {self.lake.settings.retention_days} days",
            remedy="choose a later date or version, or leave it out for the present state",
        )


def _unreadable(file: str, error: duckdb.Error) -> GroundlakeError:
    if isinstance(error, PLACE_ERRORS):
        return RetryableError(f"cannot read {file}: {error}", remedy="run the command again")
    return DataError(f"{file} is broken: {error}", remedy="run 'groundlake lake check'")
