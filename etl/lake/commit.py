"""The one way rows enter a table: existing parts, one transaction per unit, at most once.

delta-rs does not deduplicate a replayed transaction from a fresh handle, and any exception of a commit may hide a
success, so every answer is looked up on a fresh handle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import exceptions as delta
from deltalake.transaction import AddAction

from etl.errors import ConfigurationError, GroundlakeError, RetryableError
from etl.lake.faults import lasting_fault, plain
from etl.storage import StorageError

COMMITTED, FENCED = 1, 2
_FINAL = (delta.SchemaMismatchError, delta.DeltaProtocolError)


class FencedError(RetryableError):
    """The work order was declared dead while this process still worked on it; a new request does its work."""


class CommitTimeoutError(RetryableError):
    """A commit met conflicts or errors until its deadline."""


def commit(
    open_table: Callable[[], DeltaTable],
    key: str,
    actions: Sequence[AddAction],
    *,
    deadline: float,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Add parts to a table once, however often and by however many processes this is called.

    Args:
        open_table: Gives a fresh handle; called again for every look.
        key: The unit; it is the transaction's app id.
        actions: The parts to add.
        deadline: Seconds to keep trying.
        sleep: Waits between tries.

    Returns:
        A version of the table that holds the rows.

    Raises:
        FencedError: The unit was fenced.
        ConfigurationError: The table has another schema or protocol than this groundlake, or the place refuses us.
        LastingError: Waiting here does not help: the disk is full, the credentials have expired.
        CommitTimeoutError: The deadline passed.
    """
    state, version = _transact(open_table, key, actions, COMMITTED, deadline, sleep)
    if state == FENCED:
        raise FencedError(f"unit {key} was fenced", remedy="nothing: the next plan takes its images again")
    return version  # ours, a twin's, or an earlier life's


def fence(
    open_table: Callable[[], DeltaTable],
    key: str,
    *,
    deadline: float,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Declare a unit dead in a table, so that no late writer can add its parts there.

    Returns:
        Whether the unit is dead there: False when its parts were committed before.

    Raises:
        ConfigurationError, LastingError, CommitTimeoutError: As of ``commit``.
    """
    state, _ = _transact(open_table, key, (), FENCED, deadline, sleep)
    return state == FENCED


def _transact(
    open_table: Callable[[], DeltaTable],
    key: str,
    actions: Sequence[AddAction],
    state: int,
    deadline: float,
    sleep: Callable[[float], None],
) -> tuple[int, int]:
    """Bring the app id ``key`` to ``state`` unless it has one; returns the state it has, and the table's version."""
    start, attempt, last, late = time.monotonic(), 0, None, False
    lasting: GroundlakeError | None = None
    while True:
        try:
            table = open_table()
            found = table.transaction_version(key)
            if found is not None:
                return int(found), int(table.version())
            if late:
                break
            properties = CommitProperties(app_transactions=[Transaction(key, state)])
            table.create_write_transaction(list(actions), "append", table.schema(), commit_properties=properties)
            # Then verify by going round again.
        except _FINAL as error:
            raise ConfigurationError(
                f"unit {key} does not fit the table: {plain(error)}",
                remedy="use one version of groundlake on this lake",
            ) from error
        except (delta.DeltaError, OSError, StorageError) as error:  # whatever it was: unknown, look again
            last, attempt = error, attempt + 1
            if late:
                break
            lasting = lasting_fault(error, "commit", key)
            if lasting is None:
                sleep(random.uniform(0, min(5.0, 0.05 * 2 ** min(attempt, 7))))  # noqa: S311 - jitter, not a secret
        # Then one more look, but no more writing: an earlier try may be in the log although we were told otherwise.
        late = lasting is not None or time.monotonic() - start > deadline
    if lasting is not None:
        raise lasting from last
    raise CommitTimeoutError(
        f"unit {key} was not committed within {deadline:.0f} s: {plain(last)}",
        remedy="run the command again: it resumes",
    ) from last
