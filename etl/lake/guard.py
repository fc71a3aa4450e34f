"""Rows that may enter a table only if nobody else added any of their kind since the table was read.

The transaction is made on the very handle that was read, under an app id that all writers of the kind share: of two at
once one is refused, and looks again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import exceptions as delta
from deltalake.transaction import AddAction

from etl.errors import ConfigurationError
from etl.lake.commit import COMMITTED, CommitTimeoutError
from etl.lake.faults import lasting_fault
from etl.lake.lake import Lake

log = logging.getLogger(__name__)
_FINAL = (delta.SchemaMismatchError, delta.DeltaProtocolError)


def append_guarded(
    lake: Lake, name: str, table: DeltaTable, actions: Sequence[AddAction], *, guards: Sequence[str], key: str
) -> bool:
    """Add parts on a handle, unless another commit of one of the ``guards`` came after what the handle shows.

    Args:
        lake: The lake.
        name: The table.
        table: The handle on which the decision to add them was made.
        actions: The parts; they stay valid for another try.
        guards: App ids that writers of the same kind share.
        key: App id of this addition alone, by which it is found when the answer was lost.

    Returns:
        Whether an addition of ``key`` is in the log now.

    Raises:
        ConfigurationError: The table has another schema or protocol than this groundlake.
        StorageError: The store failed; nothing is known, ask again. A LastingError: when its cause is mended.
    """
    apps = [Transaction(guard, (table.transaction_version(guard) or 0) + 1) for guard in guards]
    try:
        table.create_write_transaction(
            list(actions),
            "append",
            table.schema(),
            commit_properties=CommitProperties(
                app_transactions=[*apps, Transaction(key, COMMITTED)], max_commit_retries=50
            ),
        )
        return True
    except _FINAL as error:
        raise ConfigurationError(
            f"{key} does not fit table {name!r}: {error}", remedy="use one version of groundlake on this lake"
        ) from error
    except (delta.DeltaError, OSError) as error:  # refused, or committed without our hearing of it: the log knows
        log.debug("%s: %s was refused: %s", name, key, error)
        present = lake.table(name).transaction_version(key) is not None
        if not present and (lasting := lasting_fault(error, "add to table", name, lake.uri)):
            raise lasting from error
        return present


class Patience:
    """Waits between tries, longer each time, until a deadline.

    Args:
        what: What is tried, for the error.
        deadline: Seconds.
    """

    def __init__(self, what: str, deadline: float) -> None:
        self._what, self._deadline, self._tries = what, deadline, 0
        self._start = time.monotonic()

    def wait(self) -> None:
        """Sleep a random while.

        Raises:
            CommitTimeoutError: The deadline has passed.
        """
        self._tries += 1
        if time.monotonic() - self._start > self._deadline:
            raise CommitTimeoutError(
                f"{self._what}: others were faster {self._tries} times within {self._deadline:.0f} s",
                remedy="run the command again",
            )
        time.sleep(random.uniform(0, min(2.0, 0.02 * 2 ** min(self._tries, 7))))  # noqa: S311 - jitter, not a secret
