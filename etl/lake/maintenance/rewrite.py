"""The one way committed files are replaced: removed and added in one guarded transaction.

The transaction is made on the very handle whose files were read, under one app id for all kinds of rewrite. delta-rs's
own ``optimize`` doubles rows when two of them overlap; here one of the two is refused and looks again. Appends are
never refused by it, nor refuse it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import exceptions as delta
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import RetryableError
from etl.lake.lake import Lake
from etl.lake.maintenance.files import DataFile, data_files
from etl.lake.parts import Part, add_action, write_part

APP = "maintain"
TRIES = 50


class RewriteConflictError(RetryableError):
    """A rewrite met other rewrites of the same table at every try."""


@dataclass(frozen=True)
class Change:
    """Files to remove, and for what takes their place one table of rows per new file (none: they just go).

    Attributes:
        removed: Files of the handle's version.
        added: Rows of each new file; they are conformed, sorted and written by ``rewrite``.
        same_rows: Whether the rows are those of the removed files, as in a compaction.
    """

    removed: Sequence[DataFile]
    added: Sequence[pa.Table]
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
    """
    changes = conflicts = 0
    last: Exception | None = None
    while conflicts < TRIES:
        table = lake.table(name)
        change = step(table)
        if change is None:
            return changes
        parts, error = _swap(lake, name, table, change)
        if parts is None:
            conflicts, last = conflicts + 1, error
            time.sleep(random.uniform(0, 0.1 * conflicts))  # noqa: S311 - jitter, not a secret
            continue
        changes, conflicts = changes + 1, 0
        if done:
            done(change, parts)
    raise RewriteConflictError(
        f"table {name!r} could not be rewritten in {TRIES} tries: {last}", remedy="try again later; no row changed"
    ) from last


def _swap(lake: Lake, name: str, table: DeltaTable, change: Change) -> tuple[list[Part] | None, Exception | None]:
    """Try one change; its parts when it is in the log, else None, and what the commit raised.

    A part whose commit was not seen stays where it is: a slow store may still take it. Sweep finds the others.
    """
    number = (table.transaction_version(APP) or 0) + 1
    folder = f"{APP}-{number:08d}"
    parts = [write_part(lake.store, name, rows, folder, f"{n:05d}") for n, rows in enumerate(change.added)]
    now = int(time.time() * 1000)
    data_change = not change.same_rows
    actions: list[AddAction | RemoveAction] = [_marked(add_action(lake.store, part), data_change) for part in parts]
    actions += [RemoveAction(one.path, data_change, now, size=one.size, partition_values={}) for one in change.removed]
    raised: Exception | None = None
    try:
        table.create_write_transaction(
            actions,
            "append",
            table.schema(),
            commit_properties=CommitProperties(app_transactions=[Transaction(APP, number)], max_commit_retries=50),
        )
    except (delta.DeltaError, OSError) as error:  # refused, or committed without our hearing of it: the log knows
        raised = error
    return (parts if _is_there(lake, name, parts, raised) else None), raised


def _is_there(lake: Lake, name: str, parts: Sequence[Part], raised: Exception | None) -> bool:
    """Whether our own change is in the log: after an error its new files tell; without any, only the answer does."""
    if raised is None:
        return True
    present = {one.path for one in data_files(lake.table(name))}
    return bool(parts) and all(part.path in present for part in parts)


def _marked(action: AddAction, data_change: bool) -> AddAction:
    return AddAction(action.path, action.size, {}, action.modification_time, data_change, action.stats)
