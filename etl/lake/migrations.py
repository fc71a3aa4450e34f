"""Bringing the tables of a lake to this groundlake's schema: whole new ones, new columns, new properties.

Every step only adds, and is left out where it is done already: so it may run while writers write, be killed anywhere,
and run twice at once. An open writer meets one conflict and looks again; files without a new column read as null there.
"""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake import exceptions as delta

from etl.errors import ConfigurationError, DataError
from etl.lake.parts import table_key
from etl.lake.schemas import SCHEMA_VERSION, TABLES, Table
from etl.storage import NotFoundError, StorageError, Store

MARKER = "lake.json"
Marker = tuple[int, datetime]


def read_marker(store: Store) -> Marker | None:
    """The schema version of a lake and when it was made; None when there is no lake.

    Raises:
        ConfigurationError: A newer groundlake wrote the lake.
        DataError: The marker does not say so.
        StorageError: The store failed.
    """
    try:
        marker = store.read_json(MARKER)
        version = int(marker["schema_version"])
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"the lake at {store.uri} has schema {version}, this groundlake knows {SCHEMA_VERSION}",
                remedy="upgrade groundlake",
            )
        return version, datetime.fromisoformat(marker["created_at"])
    except NotFoundError:
        return None
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{store.join(MARKER)} lacks the schema's version or when the lake was made: {error!r}",
            remedy='mend it: {"schema_version": 2, "created_at": "2026-01-01T00:00:00+00:00"}',
        ) from error


def upgrade(store: Store, *, deadline: float) -> list[str]:
    """Bring a lake to this groundlake's schema, or make a new one.

    Args:
        store: Where it lies, or is to lie.
        deadline: Seconds to keep trying against conflicts, per table.

    Returns:
        What was done, in words; empty when there was nothing to do.

    Raises:
        ConfigurationError: A newer groundlake wrote the lake, or a column has another type.
        StorageError: The store failed; whatever was done stays, and running it again does the rest.
    """
    read_marker(store)  # refuses a newer one before anything is done
    done = [step for table in TABLES.values() for step in bring_up(store, table, deadline=deadline)]
    marker = read_marker(store)  # again: one that a newer groundlake upgraded further meanwhile stays
    # Last, since it tells writers that every table can take their rows.
    if marker is None:
        content = {"schema_version": SCHEMA_VERSION, "created_at": datetime.now(UTC).isoformat()}
        store.put_if_absent(MARKER, json.dumps(content).encode())
    elif marker[0] < SCHEMA_VERSION:
        content = {"schema_version": SCHEMA_VERSION, "created_at": marker[1].isoformat()}
        store.put(MARKER, json.dumps(content).encode())
        done.append(f"the lake has schema {SCHEMA_VERSION} instead of {marker[0]}")
    return done


def bring_up(store: Store, table: Table, *, deadline: float) -> list[str]:
    """Make a table what the schema says, one commit per step; for arguments, result and errors see ``upgrade``."""
    done: list[str] = []
    start, attempt = time.monotonic(), 0
    while True:
        try:
            step = _step(store, table)
            if step is None:
                return done
            done.append(step)
        except delta.CommitFailedError as error:  # another process changed the table: look what is left to do
            if time.monotonic() - start > deadline:
                raise StorageError("upgrade table", table.name, error, remedy="run the command again") from error
            attempt += 1
            time.sleep(random.uniform(0, min(5.0, 0.05 * 2 ** min(attempt, 7))))  # noqa: S311 - jitter, not a secret
        except (delta.DeltaError, OSError) as error:
            raise StorageError("upgrade table", table.name, error, remedy="run the command again") from error


def _step(store: Store, table: Table) -> str | None:
    """Do the first thing that a table lacks, and say what it was; None when it lacks nothing."""
    uri, options = store.join(table_key(table.name)), store.delta_options()
    try:
        handle = DeltaTable(uri, storage_options=options)
    except delta.TableNotFoundError:
        DeltaTable.create(
            uri,
            table.schema,
            mode="ignore",
            configuration=dict(_properties(table)),
            storage_options=options,
            commit_properties=CommitProperties(max_commit_retries=0),  # a retry would create it over a twin's
        )
        return f"{table.name}: made"
    stored = pa.schema(handle.schema())
    if missing := [field for field in table.schema if field.name not in stored.names]:
        handle.alter.add_columns(DeltaSchema.from_arrow(pa.schema(missing)).fields)
        return f"{table.name}: columns {', '.join(field.name for field in missing)} added"
    _check_types(table, stored)
    present = handle.metadata().configuration
    if wanted := {name: value for name, value in _properties(table).items() if present.get(name) != value}:
        handle.alter.set_table_properties(wanted, raise_if_not_exists=False)
        return f"{table.name}: {', '.join(wanted)} set"
    return None


def _properties(table: Table) -> dict[str, str]:
    return {
        # Without it pyarrow datasets derive wrong guarantees from files that lack statistics.
        "delta.dataSkippingStatsColumns": ",".join(table.statistics) or table.columns[0].name,
        "delta.checkpointInterval": "10",
        # A checkpoint would delete the log entries that pinned versions need.
        "delta.enableExpiredLogCleanup": "false",
        "delta.logRetentionDuration": "interval 36500 days",
        # Checkpoints forget removed files after this (a week by default), and vacuum can then never delete them.
        "delta.deletedFileRetentionDuration": "interval 100 days",
    }


def _check_types(table: Table, stored: pa.Schema) -> None:
    for field in table.schema:
        if (found := _plain(stored.field(field.name).type)) != _plain(field.type):
            raise ConfigurationError(
                f"column {field.name!r} of table {table.name!r} has type {found}, expected {field.type}",
                remedy="only groundlake may change the tables; restore that table from a backup",
            )


def _plain(type_: Any) -> str:
    """A type in words, without the names that Arrow gives the elements of lists."""
    return str(type_).replace("element:", "item:")
