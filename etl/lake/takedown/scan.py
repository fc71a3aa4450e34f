"""SQL over the data files of a table, those of its present version or any that still lie in the store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from etl.errors import RetryableError
from etl.lake.engine import quoted, set_up
from etl.lake.lake import Lake
from etl.lake.parts import table_key
from etl.lake.schemas import TABLES

_FEW = 200  # shards that a query names, so that row groups without them are skipped


@dataclass(frozen=True)
class Hit:
    """A file that holds wanted rows: how many, of how many, and which of the wanted values."""

    rows: int
    of: int
    values: frozenset[str]


def on_disk(lake: Lake, name: str) -> dict[str, int]:
    """Every data file of a table that lies in the store, named by a version or not: path inside the table -> bytes."""
    prefix = f"{table_key(name)}/"
    return {one.key.removeprefix(prefix): one.size for one in lake.store.list(f"{prefix}parts/")}


class Scan:
    """Reads columns of many files within the memory that SQL may take; open one with ``Scan.open``."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self.lake = lake
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, lake: Lake) -> Iterator[Scan]:
        """A scan of a lake, until the block ends.

        Raises:
            RetryableError: The scratch folder failed.
        """
        try:
            lake.settings.scratch.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(prefix="sql-", dir=lake.settings.scratch)
        except OSError as error:
            raise RetryableError(
                f"the scratch folder {lake.settings.scratch} failed: {error}",
                remedy="free its disk or set GROUNDLAKE_SCRATCH to another one, then run it again",
            ) from error
        try:
            with duckdb.connect() as connection:
                memory, options = lake.settings.sql_memory, lake.store.delta_options()
                set_up(connection, memory=memory, spill=Path(folder) / "spill", s3=options)
                yield cls(lake, connection)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def rows(self, query: str, bound: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query.

        Raises:
            RetryableError: The engine failed; a file may just have been deleted.
        """
        try:
            found: list[dict[str, Any]] = self._connection.execute(query, list(bound)).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            raise RetryableError(
                f"the tables could not be searched: {error}", remedy="run the command again: it goes on where it was"
            ) from error
        return found

    def give(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Let queries read values of ours as a table."""
        content = pa.table({column: pa.array(values, pa.string()) for column, values in columns.items()})
        self._connection.register(name, content)

    def view(self, name: str, table: str, paths: Collection[str]) -> None:
        """Let queries read files of a table as the view ``name``, with a column ``path``."""
        if paths:
            source = f"select * exclude (filename), {self._path(table)} as path from {self._source(table, paths)}"  # noqa: S608
        else:
            self._connection.register(f"no_{table}", TABLES[table].schema.empty_table())
            source = f"select *, '' as path from no_{table}"  # noqa: S608 - a table of ours
        self._connection.execute(f"create or replace temp view {name} as {source}")

    def hits(
        self, table: str, paths: Collection[str], column: str, values: Collection[str], shards: Collection[str] | None
    ) -> dict[str, Hit]:
        """The files with rows whose ``column`` is among ``values``.

        Args:
            table: The table.
            paths: Files to look into.
            column: A text column.
            values: What to look for.
            shards: Shards that such rows belong to; None when they may be of any.

        Raises:
            RetryableError: The engine failed.
        """
        if not paths or not values or (shards is not None and not shards):
            return {}
        self.give("wanted_values", {"value": sorted(values)})
        named = shards is not None and len(shards) <= _FEW and "shard_id" in TABLES[table].schema.names
        where = f"shard_id in ({', '.join(quoted(shard) for shard in sorted(shards or ()))}) and" if named else ""
        found = self.rows(
            f"select {self._path(table)} as path, count(*) as n, list(distinct {column}) as found "  # noqa: S608
            f"from {self._source(table, paths)} where {where} {column} in (select value from wanted_values) group by 1"
        )
        sizes = self._row_counts(table, [row["path"] for row in found])
        return {row["path"]: Hit(row["n"], sizes[row["path"]], frozenset(row["found"])) for row in found}

    def _row_counts(self, table: str, paths: Collection[str]) -> dict[str, int]:
        if not paths:
            return {}
        source = f"parquet_file_metadata([{self._uris(table, paths)}])"
        query = f"select {self._path(table, 'file_name')} as path, num_rows as n from {source}"  # noqa: S608
        return {row["path"]: row["n"] for row in self.rows(query)}

    def _source(self, table: str, paths: Collection[str]) -> str:
        uris = self._uris(table, paths)
        return f"read_parquet([{uris}], union_by_name=true, hive_partitioning=false, filename=true)"

    def _uris(self, table: str, paths: Collection[str]) -> str:
        return ", ".join(quoted(self.lake.store.join(f"{table_key(table)}/{path}")) for path in sorted(paths))

    def _path(self, table: str, column: str = "filename") -> str:
        """SQL for a file's path inside its table: what follows the table's own folder."""
        return f"{column}[{len(self.lake.table_uri(table)) + 2}:]"
