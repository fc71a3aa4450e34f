"""Opening work orders so that no two of them, of one annotator, ever list the same image of the same input.

Table ``orders`` is the register: an order is open from its row on, until ``outcomes`` holds its transaction. The steps
of opening one, and why a process may die between any two of them:

1. Take a handle on ``orders``, then a snapshot; the images to list are those that lack a fresh outcome in it and that
   no open order lists. An order whose outcomes the snapshot does not show, but its row, is open to us.
2. Write the list below ``units/<key>/`` under a random name. Alone it means nothing.
3. Commit the row, on the handle of step 1 or a later one, under an app id that all orders of the annotator share:
   what was registered after the handle makes it fail. Then only the lists registered meanwhile are taken off ours,
   finished ones too (the snapshot lacks their outcomes), and we try again. The planning query runs once.
4. Publish ``units/<key>.json`` from the registered list, if absent. Whoever finds a row without it does the same, so
   a retry and a twin get the same list, and an order whose opener died here can still be finished by anyone.

Two orders can only share an image if they share a shard that holds a copy of it: so each row names all of these, and
only the lists of orders with a shard in common are read. (The canonical copy alone would not do: it moves when a shard
that was planned earlier is settled later; but of two snapshots the later one sees both copies.)
"""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from etl.errors import DataError
from etl.lake.commit import FENCED
from etl.lake.guard import Patience, append_guarded
from etl.lake.lake import Lake
from etl.lake.orders import Order, order_content, order_key, read_order
from etl.lake.parts import add_action, data_paths, table_key, write_part
from etl.lake.schemas import TABLES
from etl.lake.snapshot import Snapshot
from etl.lake.units import fence_unit, last_table
from etl.storage import NotFoundError

log = logging.getLogger(__name__)
TABLE = "orders"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What an order may list, as a snapshot shows it.

    Attributes:
        items: Images that lack a fresh outcome and are in no open order.
        shards: Every shard that holds a copy of one of them.
        known: Orders of the annotator that the snapshot shows.
        blockers: Open orders that list images which would be here else.
        more: Whether there are more such images than one order takes.
    """

    items: Sequence[Row]
    shards: Sequence[str] = ()
    known: frozenset[str] = frozenset()
    blockers: frozenset[str] = frozenset()
    more: bool = False


@dataclass(frozen=True)
class Claim:
    """An order, or None when nothing was left to list; and the open orders of others that hold what is not in it."""

    order: Order | None
    blockers: frozenset[str] = frozenset()


def claim(lake: Lake, key: str, header: Row, find: Callable[[], Found]) -> Claim:
    """The order of a key: the one that exists, else a new one over what ``find`` gives and no other order lists.

    An empty list is not kept: nothing was written under the key, so whoever comes later may still fix a list.

    Args:
        lake: The lake.
        key: Digest of what was asked for.
        header: What all items share; ``stage``, ``annotator_id`` and ``request`` at least. ``more`` and ``blockers``
            are added to it.
        find: Takes a snapshot and looks; called once at most.

    Raises:
        CommitTimeoutError: Other orders of the annotator were faster until the deadline.
        LostListError: The order is registered without a list.
        StorageError: The store failed; the same call goes on.
    """
    order = read_order(lake, key)
    if order is None:
        table = lake.table(TABLE)  # before the snapshot of `find`: what that does not show makes our commit fail
        if table.transaction_version(key) is None:
            found = _register(lake, key, header, table, find())
            if not found.items:
                return Claim(None, found.blockers)
        order = adopt(lake, key)
    return Claim(order, frozenset(order.header.get("blockers", ())))  # a retry has to know them too


def adopt(lake: Lake, key: str) -> Order:
    """The order of a registered key, published now if whoever opened it died before that.

    Raises:
        DataError: No order of that key is registered.
        LostListError: Its list is gone; the order was fenced, since nobody can ever work it.
    """
    order = read_order(lake, key)
    if order is None:
        row = _row_of(lake, key)
        content = _content(lake, row)
        if content is None:
            raise LostListError(
                f"the list {row['items']} of order {key} is gone from {lake.uri}; the order was fenced",
                remedy="make a new request: it takes these images again",
            )
        lake.store.put_if_absent(order_key(key), content)
        for leftover in list(lake.store.list(f"units/{key}/items-")):  # only now: the order itself says it all
            lake.store.delete(leftover.key)
        order = read_order(lake, key)
    if order is None:
        raise DataError(f"order {key} vanished from {lake.uri}", remedy="run 'groundlake lake check'")
    return order


class LostListError(DataError):
    """An order is registered, but the list of its images is gone: it was fenced."""


def known_orders(connection: duckdb.DuckDBPyConnection, annotator_id: str) -> frozenset[str]:
    """The keys of all registered orders of an annotator that a snapshot's connection shows."""
    rows = connection.execute("select unit from raw.orders where annotator_id = ?", [annotator_id]).fetchall()
    return frozenset(row[0] for row in rows)


def open_lists(
    snapshot: Snapshot, connection: duckdb.DuckDBPyConnection, annotator_id: str, shards: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    """The orders of an annotator that are open in a snapshot and hold copies in ``shards``, with what they list.

    Args:
        snapshot: What decides: an order that was finished after it counts as open, its outcomes are not seen here.
        connection: A connection of the snapshot.
        annotator_id: The annotator.
        shards: Shards with copies of the images in question.

    Returns:
        Keys, each with columns ``image_id`` and ``input_digest``; one list is in memory at a time.
    """
    candidates = (
        connection.execute(
            "select unit, items, stage from raw.orders where annotator_id = ? and list_has_any(shards, ?::varchar[]) "
            "and unit not in (select unit from raw.outcomes where annotator_id = ?) order by unit",
            [annotator_id, list(shards), annotator_id],
        )
        .to_arrow_table()
        .to_pylist()
    )
    lake = snapshot.lake
    outcomes = lake.table("outcomes", snapshot.versions["outcomes"]) if candidates else None
    for row in candidates:
        if outcomes is None or outcomes.transaction_version(row["unit"]) is not None:  # fenced, or its rows are gone
            continue
        pairs = sorted(_pairs(lake, row))
        yield row["unit"], pa.table({"image_id": [i for i, _ in pairs], "input_digest": [d for _, d in pairs]})


def _register(lake: Lake, key: str, header: Row, table: DeltaTable, found: Found) -> Found:
    """Bring a row of ``key`` into the register, ours or a twin's; returns what is left of ``found``: no items, no row.

    A list or part that was not registered stays where it is: a slow store may still take the row that names it.
    """
    guard = f"orders-{header['annotator_id']}"
    seen = set(data_paths(table))
    patience = Patience(f"order {key}", lake.settings.commit_deadline)
    action: AddAction | None = None
    while found.items:
        action = action or _written(lake, key, header, found)
        if append_guarded(lake, TABLE, table, [action], guards=[guard], key=key):
            break
        patience.wait()
        table = lake.table(TABLE)
        if table.transaction_version(key) is not None:
            break
        left = _without_new(lake, found, _rows(lake, table, seen, header["annotator_id"]))
        seen |= set(data_paths(table))
        action = action if len(left.items) == len(found.items) else None
        found = left
    return found


def _written(lake: Lake, key: str, header: Row, found: Found) -> AddAction:
    """The list of an order, and the part that holds its row."""
    place = f"units/{key}/items-{uuid.uuid4().hex[:12]}.json"
    full = {**header, "more": found.more, "blockers": sorted(found.blockers)}
    lake.store.put(place, order_content(lake, full, found.items))
    row = {
        "unit": key,
        "stage": header["stage"],
        "annotator_id": header["annotator_id"],
        "shards": sorted(found.shards),
        "items": place,
        "n_items": len(found.items),
        "request": header["request"],
        "opened_at": datetime.now(UTC),
    }
    return add_action(
        lake.store,
        write_part(lake.store, TABLE, pa.Table.from_pylist([row], schema=TABLES[TABLE].schema), key, "00000"),
    )


def _without_new(lake: Lake, found: Found, registered: Iterable[Row]) -> Found:
    """What is left of ``found`` when lists that were registered after its snapshot are taken off."""
    new = [row for row in registered if row["unit"] not in found.known]
    items, blockers = list(found.items), set(found.blockers)
    outcomes = lake.table("outcomes")
    for row in new:
        if not set(row["shards"]) & set(found.shards) or outcomes.transaction_version(row["unit"]) == FENCED:
            continue
        taken = _pairs(lake, row)
        left = [item for item in items if (item["image_id"], item["input_digest"]) not in taken]
        if len(left) < len(items):
            blockers.add(row["unit"])
            items = left
    known = found.known | {row["unit"] for row in new}
    return replace(found, items=items, known=known, blockers=frozenset(blockers))


def _pairs(lake: Lake, row: Row) -> frozenset[tuple[str, str]]:
    """Image and input digest of everything an order lists; nothing for one whose list is gone: it is fenced here."""
    content = _content(lake, row)
    if content is None:
        return frozenset()
    return frozenset((item["image_id"], item["input_digest"]) for item in json.loads(content)["items"])


def _content(lake: Lake, row: Row) -> bytes | None:
    """An order as its opener wrote it; None, and the order is fenced, when its list is gone."""
    for place in (row["items"], order_key(row["unit"])):  # in this order: the list goes once the order is published
        try:
            return lake.store.read(place)
        except NotFoundError:
            continue
    log.warning("order %s has lost its list %s: it is fenced", row["unit"], row["items"])
    fence_unit(lake, row["unit"], last_table(row["stage"]))
    return None


def _row_of(lake: Lake, key: str) -> Row:
    """The row of a registered order; its own file is tried first."""
    table = lake.table(TABLE)
    others = [path for path in data_paths(table) if not path.startswith(f"parts/{key}/")]
    for skip in (others, ()):
        for row in _rows(lake, table, skip, None):
            if row["unit"] == key:
                return row
    raise DataError(f"order {key} is not registered in {lake.uri}", remedy="run 'groundlake lake check'")


def _rows(lake: Lake, table: DeltaTable, skip: Collection[str], annotator_id: str | None) -> Iterator[Row]:
    """The rows of the register, of one annotator or of all, but for those of some files."""
    for path in data_paths(table):
        if path not in skip:
            rows = pq.read_table(io.BytesIO(lake.store.read(f"{table_key(TABLE)}/{path}")))
            if annotator_id is not None:
                rows = rows.filter(pc.equal(rows["annotator_id"], annotator_id))
            yield from rows.to_pylist()
