"""The damage to logs that is mended without a backup: a torn last entry, a cut checkpoint, a unit committed in part.

Nothing is deleted: what is taken out of a log lies below ``damaged/`` afterwards.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from etl.errors import GroundlakeError
from etl.lake.check.entries import judge
from etl.lake.check.logs import LAST_CHECKPOINT, entry_key, is_whole, list_log, log_folder, named_checkpoint
from etl.lake.check.units import slice_parts
from etl.lake.commit import COMMITTED
from etl.lake.lake import Lake
from etl.lake.orders import commit_order, read_order
from etl.lake.parts import table_key
from etl.lake.schemas import TABLES, UNIT_TABLES
from etl.lake.units import FOLDER, last_table
from etl.storage import NotFoundError

DAMAGED = "damaged/"


def repair(lake: Lake, tables: tuple[str, ...] = tuple(TABLES)) -> Iterator[str]:
    """Mend what can be mended, and say what was done.

    Logs first: while a table does not open, no unit can be committed to it.

    Args:
        lake: The lake.
        tables: The tables whose logs are looked at.

    Raises:
        StorageError: The store failed; the same call goes on.
    """
    for name in filter(lake.has, tables):
        yield from _mend_log(lake, name)
    try:
        for name in UNIT_TABLES:
            lake.table(name)
    except GroundlakeError as error:
        yield f"{name} still cannot be opened, so that units were not looked at: {error.message}"
        return
    yield from _commit_rest(lake)


def _mend_log(lake: Lake, name: str) -> Iterator[str]:
    log = list_log(lake.store, name)
    version = log.last
    while version >= 0 and _is_torn_last(lake, name, version):
        yield f"{name}: version {version} was torn: moved to {_move(lake, entry_key(name, version))}"
        version -= 1
    if log.missing():
        return  # a checkpoint may be all that is left of what is missing
    hint = log_folder(name) + LAST_CHECKPOINT
    for one in (file for files in log.checkpoints.values() for file in files):
        if not is_whole(lake.store, one):
            lake.store.delete(hint)  # first: without one, readers look for a checkpoint themselves
            yield f"{name}: a checkpoint was cut: moved to {_move(lake, one.key)}"
    named = named_checkpoint(lake.store, name)
    if named is not None and named not in log.checkpoints:
        yield f"{name}: a hint named a checkpoint that is gone: moved to {_move(lake, hint)}"


def _is_torn_last(lake: Lake, name: str, version: int) -> bool:
    """Whether an entry is damaged, and nobody has committed after it: then no version rests on it."""
    try:
        problem = judge(lake.store.read(entry_key(name, version))).problem
    except NotFoundError:
        return False
    return problem is not None and lake.store.stat(entry_key(name, version + 1)) is None


def _move(lake: Lake, key: str) -> str:
    """Move an object out of the way: copied first, so that no kill loses it."""
    place = f"{DAMAGED}{key}-{uuid.uuid4().hex[:12]}"
    lake.store.put(place, lake.store.read(key))
    lake.store.delete(key)
    return place


def _commit_rest(lake: Lake) -> Iterator[str]:
    """Commit units again that their last table has, and another table that their slices name rows of has not.

    The commit is the one that the stage itself would repeat: it adds nothing where the unit is there already.
    """
    handles = {name: lake.table(name) for name in UNIT_TABLES}
    last = {"outcomes", "downloads"}
    for one in lake.store.list(FOLDER):
        key = one.key.removeprefix(FOLDER).removesuffix(".json")
        if "/" in key or not any(handles[name].transaction_version(key) == COMMITTED for name in last):
            continue
        parts = list(slice_parts(lake, key))
        lost = sorted({part.table for part in parts if handles[part.table].transaction_version(key) is None})
        gone = [p for p in parts if p.table in lost and lake.store.stat(f"{table_key(p.table)}/{p.path}") is None]
        order = read_order(lake, key) if lost else None
        if order is None:
            continue
        if gone:
            yield f"{', '.join(lost)}: unit {key} lacks its parts, such as {gone[0].path}: redo it"
            continue
        commit_order(lake, order, last_table(str(order.header.get("stage"))))
        yield f"{', '.join(lost)}: unit {key} was committed again"
