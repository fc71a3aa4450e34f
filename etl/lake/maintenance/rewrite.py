"""The one way committed files are replaced: removed and added in one guarded transaction.

The transaction is made on the very handle whose files were read, under one app id for all kinds of rewrite. delta-rs's
own ``optimize`` doubles rows when two of them overlap; here one of the two is refused and looks again. Appends are
never refused by it, nor refuse it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import exceptions as delta
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import DataError, RetryableError
from etl.lake.faults import lasting_fault, plain
from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile, in_order
from etl.lake.maintenance.stream import write_stream
from etl.lake.parts import Part, add_action
from etl.storage import NotFoundError, StorageError

APP = "maintain"
TRIES = 50
_NONCE = "groundlakeRewrite"  # in the commit's own entry: how a change is found again after an error


class RewriteConflictError(RetryableError):
    """A rewrite met other rewrites of the same table at every try."""


@dataclass(frozen=True)
class Change:
    """Files to remove, and the rows of each file that takes their place (none: they just go).

    Attributes:
        removed: Files of the handle's version.
        added: Per new file its rows, in the table's schema: a table, which ``rewrite`` sorts; or, where memory may not
            hold one, a stream of chunks in the table's order. A stream without rows makes no file.
        same_rows: Whether the rows are those of the removed files, as in a compaction; their number is checked.
    """

    removed: Sequence[DataFile]
    added: Sequence[pa.Table | Iterable[pa.Table]]
    same_rows: bool = False


def rewrite(
    lake: Lake,
    name: str,
    step: Callable[[DeltaTable], Change | None],
    done: Callable[[Change, list[Part]], None] | None = None,
) -> int:
    """Apply changes to a table until ``step`` sees nothing more to do.

    May run beside appends, beside itself and on another machine: no row is lost or doubled.

    Args:
        lake: The lake.
        name: The table.
        step: Given a fresh handle, returns the next change on its files, or None. A change that was refused is asked
            for again on a newer handle.
        done: Told about every change that is in the log now, with its new files in the order of ``added``.

    Returns:
        The number of changes made.

    Raises:
        RewriteConflictError: Other rewrites were faster at ``TRIES`` changes in a row.
        DataError: A change that was to keep all rows would not; it was not made.
        NotFoundError: A file of the present version is gone.
        LastingError, ConfigurationError: Trying again does not help: the disk is full, the store refuses us.
    """
    changes = conflicts = 0
    last: Exception | None = None
    while conflicts < TRIES:
        table = lake.table(name)
        change, parts = None, None
        try:
            change = step(table)
            if change is None:
                return changes
            parts, last = _swap(lake, name, table, change)
        except NotFoundError as error:  # a takedown has replaced a file since, and deleted it
            if lake.table(name).version() == table.version():
                raise
            last = error
        if change is None or parts is None:
            conflicts += 1
            time.sleep(random.uniform(0, 0.1 * conflicts))  # noqa: S311 - jitter, not a secret
            continue
        changes, conflicts = changes + 1, 0
        if done:
            done(change, parts)
    raise RewriteConflictError(
        f"table {name!r} could not be rewritten in {TRIES} tries: {plain(last)}",
        remedy="try again later; no row changed",
    ) from last


def _swap(lake: Lake, name: str, table: DeltaTable, change: Change) -> tuple[list[Part] | None, Exception | None]:
    """Try one change; its parts when it is in the log, else None, and what the commit raised.

    A part whose commit was not seen stays where it is: a slow store may still take it. Sweep finds the others.
    """
    number = (table.transaction_version(APP) or 0) + 1
    parts = _write(lake, name, change, f"{APP}-{number:08d}")
    now, nonce = int(time.time() * 1000), uuid.uuid4().hex
    data_change = not change.same_rows
    actions: list[AddAction | RemoveAction] = [_marked(add_action(lake.store, part), data_change) for part in parts]
    actions += [RemoveAction(one.path, data_change, now, size=one.size, partition_values={}) for one in change.removed]
    try:
        table.create_write_transaction(
            actions,
            "append",
            table.schema(),
            commit_properties=CommitProperties(
                custom_metadata={_NONCE: nonce}, app_transactions=[Transaction(APP, number)], max_commit_retries=50
            ),
        )
    except (delta.DeltaError, OSError) as error:  # refused, or committed without our hearing of it: the log knows
        if _is_there(lake, name, table.version(), nonce):
            return parts, error
        if lasting := lasting_fault(error, "rewrite", name, lake.uri):
            raise lasting from error
        return None, error
    return parts, None


def _write(lake: Lake, name: str, change: Change, folder: str) -> list[Part]:
    parts = []
    for number, rows in enumerate(change.added):
        chunks = [in_order(name, rows)] if isinstance(rows, pa.Table) else rows
        if part := write_stream(lake, name, chunks, folder, f"{number:05d}"):
            parts.append(part)
    before, after = sum(one.rows for one in change.removed), sum(part.rows for part in parts)
    if change.same_rows and before != after:
        raise DataError(
            f"{name}: {len(change.removed)} files of {before} rows would become {after} rows; nothing was changed",
            remedy="run 'groundlake lake check'",
        )
    return parts


def _is_there(lake: Lake, name: str, read: int, nonce: str) -> bool:
    """Whether a change made on version ``read`` is in the log: each names itself there."""
    latest = lake.table(name)
    since = latest.version() - read
    if not since:
        return False
    try:
        return any(entry.get(_NONCE) == nonce for entry in latest.history(since))
    except (delta.DeltaError, OSError) as error:
        remedy = "run the command again: it goes on from whatever is in the log"
        raise StorageError("read the log of", name, error, remedy=remedy) from error


def _marked(action: AddAction, data_change: bool) -> AddAction:
    return AddAction(action.path, action.size, {}, action.modification_time, data_change, action.stats)
