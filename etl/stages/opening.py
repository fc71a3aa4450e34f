"""From stale images to open orders, so that two requests never work the same image of the same input.

An open order of somebody else holds back the images it lists. So that a dead one holds them for no longer than it takes
to ask for them again, whoever needs them works that order too, as its twin, after an own order over the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl.lake import Lake, Snapshot
from etl.lake.claims import Claim, Found, claim, known_orders, open_lists
from etl.lake.ids import digest
from etl.stages.annotators import Annotator
from etl.stages.planning import Group, Request
from etl.stages.staleness import find_stale, stale_items

if TYPE_CHECKING:
    import duckdb

ORDER_IMAGES = 10_000  # of one order: its list, and what its slices need, have to fit into memory


def open_stage_order(
    lake: Lake, request: Request, group: Group, chain: Sequence[Annotator], shards: Sequence[str], part: int = 0
) -> Claim:
    """The order of a request over some shards of a group: the one that exists, else a new one.

    Args:
        lake: The lake.
        request: What was asked for.
        group: The group of it.
        chain: The annotators down to the one that works the order.
        shards: A member of ``group.members``.
        part: 0 for the first order over these shards; one more after an order whose header says ``more``.

    Raises:
        CommitTimeoutError: Other orders of the annotator were faster until the deadline.
        StorageError: The store failed; the same call goes on.
    """
    annotator = chain[-1]
    header = {
        "stage": annotator.entry.stage,
        "annotator_id": annotator.annotator_id,
        "request": request.name,
        "requested_at": request.requested_at,
        "source": group.source,
        "shard": shards[0],
        "shards": list(shards),
        "upstream": {a.entry.stage: a.annotator_id for a in chain[:-1]},
    }
    keys = [order_key_of(annotator, request, shards, number) for number in range(part + 1)]
    return claim(lake, keys[-1], header, lambda: _find(lake, shards, chain, keys[:-1], force=request.force))


def order_key_of(annotator: Annotator, request: Request, shards: Sequence[str], part: int = 0) -> str:
    """The key of an order; that of one shard alone is the same as before orders packed several."""
    member: Any = shards[0] if len(shards) == 1 else list(shards)
    more = (part,) if part else ()
    return digest(annotator.entry.stage, annotator.annotator_id, request.name, member, *more)


def _find(
    lake: Lake, shards: Sequence[str], chain: Sequence[Annotator], earlier: Sequence[str], *, force: bool
) -> Found:
    """What the next order may list; of ``earlier`` ones of the same request it tries nothing again."""
    annotator = chain[-1].annotator_id
    snapshot = Snapshot.take(lake)
    with snapshot.connect() as connection:
        find_stale(connection, shards, chain, force=force)
        connection.execute(
            "delete from stale where image_id in "
            "(select image_id from raw.outcomes where unit in (select unnest(?::varchar[])))",
            [list(earlier)],
        )
        places, blockers = hold_back(snapshot, connection, annotator)
        items = stale_items(connection, chain, ORDER_IMAGES + 1)
        known = known_orders(connection, annotator)
    return Found(
        items=items[:ORDER_IMAGES],
        shards=places,
        known=known,
        blockers=blockers,
        more=len(items) > ORDER_IMAGES,
    )


def hold_back(
    snapshot: Snapshot, connection: duckdb.DuckDBPyConnection, annotator_id: str
) -> tuple[list[str], frozenset[str]]:
    """Take off the temporary table ``stale`` what open orders of an annotator list.

    Args:
        snapshot: What decides which orders are open.
        connection: A connection of it, with the table (columns ``image_id`` and ``input_digest`` at least).
        annotator_id: The annotator.

    Returns:
        Every shard that holds a copy of a picture that was in the table, and the orders that took something off it.
    """
    copies = connection.execute(
        "select distinct shard_id from raw.images where image_id in (select image_id from stale)"
    ).fetchall()
    places = [row[0] for row in copies]
    blockers: set[str] = set()
    for unit, listed in open_lists(snapshot, connection, annotator_id, places):
        connection.register("listed", listed)
        taken = connection.execute(
            "delete from stale using listed "
            "where stale.image_id = listed.image_id and stale.input_digest = listed.input_digest"
        ).fetchall()
        connection.unregister("listed")
        if taken[0][0]:
            blockers.add(unit)
    return places, frozenset(blockers)


def note_adopted(lake: Lake, request_key: str, unit: str, stage: str) -> None:
    """Say, before it is worked, that a request also works an order of another one: its results are this one's too."""
    lake.store.put_if_absent(f"{_place(request_key)}{unit}.json", json.dumps({"stage": stage}).encode())


def adopted_units(lake: Lake, request_key: str) -> list[str]:
    """The orders of other requests that a request has worked, or meant to."""
    start = _place(request_key)
    return [found.key.removeprefix(start).removesuffix(".json") for found in lake.store.list(start)]


def _place(request_key: str) -> str:
    return f"units/requests/{request_key}/adopted/"
