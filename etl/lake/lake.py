"""The lake: a folder or bucket of Delta tables, tars and records, opened once per process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake import exceptions as delta
from deltalake.transaction import AddAction

from etl.errors import ConfigurationError
from etl.lake.commit import commit, fence
from etl.lake.parts import add_action, table_key, write_part
from etl.lake.schemas import SCHEMA_VERSION, TABLES, Table
from etl.settings import Settings
from etl.storage import NotFoundError, StorageError, Store, open_store

MARKER = "lake.json"


class Lake:
    """A lake that exists; make one with ``Lake.create``, reach one with ``Lake.open``."""

    def __init__(self, store: Store, settings: Settings, schema_version: int = SCHEMA_VERSION) -> None:
        """Take a store as a lake.

        Args:
            store: Where it lies.
            settings: Those of this process.
            schema_version: Version of the schema its tables have; an older one can be read only.

        Raises:
            ConfigurationError: Its address has characters that delta-rs (``%``) or DuckDB (the others) reads otherwise.
        """
        if odd := sorted(set(store.uri) & set("%*?[")):
            raise ConfigurationError(
                f"a lake cannot lie at {store.uri}: its path has {' '.join(odd)}", remedy="choose another folder"
            )
        self.store = store
        self.settings = settings
        self.schema_version = schema_version

    @property
    def uri(self) -> str:
        """Where the lake lies."""
        return self.store.uri

    @classmethod
    def open(cls, uri: str, settings: Settings) -> Lake:
        """The lake at ``uri``.

        Raises:
            ConfigurationError: There is none, or a newer groundlake wrote it.
        """
        store = open_store(uri)
        try:
            marker = store.read_json(MARKER)
        except NotFoundError:
            raise ConfigurationError(
                f"no lake at {uri} ({MARKER} is missing)", remedy=f"run 'groundlake lake init {uri}'"
            ) from None
        if int(marker["schema_version"]) > SCHEMA_VERSION:
            raise ConfigurationError(
                f"the lake at {uri} has schema {marker['schema_version']}, this groundlake knows {SCHEMA_VERSION}",
                remedy="upgrade groundlake",
            )
        return cls(store, settings)

    @classmethod
    def create(cls, uri: str, settings: Settings) -> Lake:
        """Make the lake at ``uri``, with all tables empty; does nothing to one that exists.

        Raises:
            ConfigurationError: The place cannot hold a lake: it lacks conditional writes.
        """
        lake = cls(open_store(uri), settings)
        lake.store.probe()
        for table in TABLES.values():
            lake._create_table(table)
        marker = {"schema_version": SCHEMA_VERSION, "created_at": datetime.now(UTC).isoformat()}
        lake.store.put_if_absent(MARKER, json.dumps(marker).encode())
        return lake

    def _create_table(self, table: Table) -> None:
        configuration: dict[str, str | None] = {
            # Without it pyarrow datasets derive wrong guarantees from files that lack statistics.
            "delta.dataSkippingStatsColumns": ",".join(table.statistics) or table.columns[0].name,
            "delta.checkpointInterval": "10",
            # A checkpoint would delete the log entries that pinned versions need.
            "delta.enableExpiredLogCleanup": "false",
            "delta.logRetentionDuration": "interval 36500 days",
            # Checkpoints forget removed files after this (a week by default), and vacuum can then never delete them.
            "delta.deletedFileRetentionDuration": "interval 100 days",
        }
        uri, options = self.table_uri(table.name), self.store.delta_options()
        try:
            DeltaTable.create(
                uri,
                table.schema,
                mode="ignore",
                configuration=configuration,
                storage_options=options,
                commit_properties=CommitProperties(max_commit_retries=0),  # a retry would create it over a twin's
            )
        except delta.CommitFailedError:
            self.table(table.name)  # a twin was first, else this raises
        except (delta.DeltaError, OSError) as error:
            raise StorageError("create table", table.name, error, remedy="run the command again") from error

    def table_uri(self, name: str) -> str:
        """The uri of a table."""
        return self.store.join(table_key(name))

    def has(self, name: str) -> bool:
        """Whether the lake has this table: one that an older groundlake made may lack it."""
        return TABLES[name].since <= self.schema_version

    def table(self, name: str, version: int | None = None) -> DeltaTable:
        """A fresh handle on a table, at its latest or a given version.

        Raises:
            ConfigurationError: There is no such table or version.
            StorageError: The store failed.
        """
        try:
            return DeltaTable(self.table_uri(name), version=version, storage_options=self.store.delta_options())
        except (delta.DeltaError, OSError) as error:
            if isinstance(error, OSError) or not (isinstance(error, delta.TableNotFoundError) or version is not None):
                raise StorageError("open table", name, error, remedy="run the command again") from error
            raise ConfigurationError(
                f"table {name!r} of {self.uri} has no version {'latest' if version is None else version}: {error}",
                remedy="run 'groundlake lake init' on this lake; an old version may be past the retention",
            ) from error

    def commit(self, table: str, key: str, actions: Sequence[AddAction]) -> int:
        """Add parts to a table under the unit ``key``, at most once; see ``etl.lake.commit``."""
        return commit(lambda: self.table(table), key, actions, deadline=self.settings.commit_deadline)

    def fence(self, table: str, key: str) -> bool:
        """Declare the unit ``key`` dead in a table; False when it was committed before. See ``etl.lake.commit``."""
        return fence(lambda: self.table(table), key, deadline=self.settings.commit_deadline)

    def append(self, table: str, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        """Add a few rows to a small table (shards, runs, …) once per ``key``, however often it is called."""
        if not rows or self.table(table).transaction_version(key) is not None:
            return
        data = pa.Table.from_pylist([dict(row) for row in rows], schema=TABLES[table].schema)
        self.commit(table, key, [add_action(self.store, write_part(self.store, table, data, key, "00000"))])
