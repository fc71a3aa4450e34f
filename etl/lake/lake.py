"""The lake: a folder or bucket of Delta tables, tars and records, opened once per process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import exceptions as delta
from deltalake.transaction import AddAction

from etl.errors import ConfigurationError, DataError
from etl.lake.commit import commit, fence
from etl.lake.faults import plain, typed_fault
from etl.lake.migrations import MARKER, read_marker, upgrade
from etl.lake.parts import add_action, table_key, write_part
from etl.lake.schemas import SCHEMA_VERSION, TABLES
from etl.settings import Settings
from etl.storage import StorageError, Store, open_store


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
    def open(cls, uri: str, settings: Settings, *, reading: bool = False) -> Lake:
        """The lake at ``uri``.

        A lake that an older groundlake made can be read: what its tables lack reads as empty or null. Nothing is
        written to it before its upgrade, so that no work is done whose rows could not be committed.

        Args:
            uri: Where it lies.
            settings: Those of this process.
            reading: Whether an older lake will do, since nothing is to be written.

        Raises:
            ConfigurationError: There is none, a newer groundlake wrote it, or an older one and it is to be written.
        """
        store = open_store(uri)
        marker = read_marker(store)
        if marker is None:
            raise ConfigurationError(
                f"no lake at {uri} ({MARKER} is missing)", remedy=f"run 'groundlake lake init {uri}'"
            )
        lake = cls(store, settings, marker[0])
        if not reading:
            lake.check_writable()
        return lake

    @classmethod
    def create(cls, uri: str, settings: Settings) -> Lake:
        """Make the lake at ``uri``, with all tables empty; one that exists is brought to the present schema.

        Raises:
            ConfigurationError: The place cannot hold a lake (it lacks conditional writes), or holds a newer one.
        """
        lake = cls(open_store(uri), settings)
        lake.store.probe()
        upgrade(lake.store, deadline=settings.commit_deadline)
        return lake

    @property
    def created_at(self) -> datetime:
        """When it was made.

        Raises:
            DataError: Its marker is missing or does not say so.
        """
        marker = read_marker(self.store)
        if marker is None:
            raise DataError(f"{self.store.join(MARKER)} is missing", remedy=f"run 'groundlake lake init {self.uri}'")
        return marker[1]

    def check_writable(self) -> None:
        """Refuse to write to a lake of an older schema.

        Raises:
            ConfigurationError: It is one.
        """
        if self.schema_version < SCHEMA_VERSION:
            raise ConfigurationError(
                f"the lake at {self.uri} has schema {self.schema_version}, this groundlake writes {SCHEMA_VERSION}",
                remedy="run 'groundlake lake upgrade': it only adds, and may run while others write",
            )

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
            if fault := typed_fault(error, "open table", name, self.uri):
                raise fault from error
            if isinstance(error, OSError) or not (isinstance(error, delta.TableNotFoundError) or version is not None):
                raise StorageError("open table", name, plain(error), remedy="run the command again") from error
            wanted = "latest" if version is None else version
            raise ConfigurationError(
                f"table {name!r} of {self.uri} has no version {wanted}: {plain(error)}",
                remedy="run 'groundlake lake init' on this lake; an old version may be past the retention",
            ) from error

    def commit(self, table: str, key: str, actions: Sequence[AddAction]) -> int:
        """Add parts to a table under the unit ``key``, at most once; see ``etl.lake.commit``."""
        self.check_writable()
        return commit(lambda: self.table(table), key, actions, deadline=self.settings.commit_deadline)

    def fence(self, table: str, key: str) -> bool:
        """Declare the unit ``key`` dead in a table; False when it was committed before. See ``etl.lake.commit``."""
        self.check_writable()
        return fence(lambda: self.table(table), key, deadline=self.settings.commit_deadline)

    def append(self, table: str, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        """Add a few rows to a small table (shards, runs, …) once per ``key``, however often it is called."""
        if not rows or self.table(table).transaction_version(key) is not None:
            return
        data = pa.Table.from_pylist([dict(row) for row in rows], schema=TABLES[table].schema)
        self.commit(table, key, [add_action(self.store, write_part(self.store, table, data, key, "00000"))])

    def sql(self, query: str, *, versions: Mapping[str, int] | None = None, at: datetime | None = None) -> pa.Table:
        """The rows of one SELECT over the views, as they are now or were in an older state.

        For example::

            lake = Lake.open("s3://bucket/lake", load_settings(), reading=True)
            lake.sql("select label, count(*) as n from instances group by label order by n desc")
            lake.sql("select count(*) from images", at=datetime(2026, 11, 1, tzinfo=UTC))

        Args:
            query: The SELECT; ``groundlake sql --tables`` lists the views.
            versions: Versions of tables to read, such as those a manifest's lock names; others at their latest.
            at: A date with a time zone, instead.

        Raises:
            QueryError: It is not exactly one SELECT, or the SQL engine refuses it.
            RetentionError: The state is older than the retention and pinned by no built manifest.
            ConfigurationError: There was no such state.
            RetryableError: The store or the SQL engine failed.
        """
        from etl.lake.snapshot import Snapshot  # which needs this module

        return Snapshot.take(self, versions, at=at).sql(query)
