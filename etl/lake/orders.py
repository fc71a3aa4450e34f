"""Work orders: who asks first fixes the list; slices of it are finished once; then each table gets one commit.

Keys in the lake: ``units/<key>.json`` holds the order, ``units/<key>/<slice>.json`` names a finished slice's parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from etl.errors import DataError, GroundlakeError
from etl.lake.commit import FENCED, FencedError
from etl.lake.lake import Lake
from etl.lake.parts import Part, add_action, table_key, write_part
from etl.storage import NotFoundError


@dataclass(frozen=True)
class Order:
    """A list of work that never changes once it exists.

    Attributes:
        key: Digest of what was asked for; the app id of its commits.
        header: What all items share (stage, annotator, request, …).
        items: One JSON mapping per image or url, in the order of the slices.
        slice_size: Items per slice.
    """

    key: str
    header: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]
    slice_size: int

    def slices(self) -> Iterator[tuple[int, Sequence[Mapping[str, Any]]]]:
        """Number and items of every slice."""
        for number, start in enumerate(range(0, len(self.items), self.slice_size)):
            yield number, self.items[start : start + self.slice_size]


@dataclass(frozen=True)
class SliceRecord:
    """A finished slice: its parts, and the counts a summary wants."""

    parts: tuple[Part, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def order_key(key: str) -> str:
    """Where an order lies in the lake."""
    return f"units/{key}.json"


def read_order(lake: Lake, key: str) -> Order | None:
    """The order of a key, or None when nobody asked for it yet."""
    if lake.store.stat(order_key(key)) is None:
        return None
    content = lake.store.read_json(order_key(key))
    return Order(key, content["header"], content["items"], content["slice_size"])


def order_content(lake: Lake, header: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> bytes:
    """What ``units/<key>.json`` holds: it alone says what an order is, whatever the settings are later."""
    content = {"header": dict(header), "slice_size": lake.settings.slice_size, "items": list(items)}
    return json.dumps(content).encode()


def open_order(
    lake: Lake, key: str, header: Mapping[str, Any], make: Callable[[], Sequence[Mapping[str, Any]]]
) -> Order:
    """The order of a key: the one that exists, else a new one with the items of ``make``.

    Of two processes that ask at once, both get the list of whoever was first.
    """
    found = read_order(lake, key)
    if found is None:
        lake.store.put_if_absent(order_key(key), order_content(lake, header, make()))
        found = read_order(lake, key)
    if found is None:
        raise DataError(f"order {key} vanished from {lake.uri}", remedy="run 'groundlake lake check'")
    return found


def read_slice(lake: Lake, key: str, number: int) -> SliceRecord | None:
    """The record of a finished slice, or None."""
    try:
        content = lake.store.read_json(_slice_key(key, number))
    except NotFoundError:
        return None
    return SliceRecord(tuple(Part.from_json(part) for part in content["parts"]), content["counts"])


def finish_slice(
    lake: Lake, key: str, number: int, tables: Mapping[str, pa.Table], counts: Mapping[str, int]
) -> SliceRecord:
    """Write a slice's rows and name them, unless a twin was first; returns the record that counts.

    Raises:
        ConstraintError: A row breaks a rule of its table.
        FencedError: The order was declared dead and swept meanwhile.
    """
    parts = [write_part(lake.store, name, rows, key, f"{number:05d}") for name, rows in tables.items() if rows.num_rows]
    content = {"parts": [part.to_json() for part in parts], "counts": dict(counts)}
    lake.store.put_if_absent(_slice_key(key, number), json.dumps(content).encode())
    record = read_slice(lake, key, number)
    if record is None:
        raise _missing(lake, key, f"slice {number} of order {key} vanished from {lake.uri}")
    for part in parts:  # a twin won the slice: ours were never named
        if part not in record.parts:
            lake.store.delete(f"{table_key(part.table)}/{part.path}")
    return record


def commit_order(lake: Lake, order: Order, last: str) -> list[SliceRecord]:
    """Commit the parts of all slices, one transaction per table, the table ``last`` after all others.

    Until ``last`` is committed no reader shows any row of the order.

    Raises:
        DataError: A slice is not finished.
        FencedError: The order was declared dead; sweep may have removed its slices.
    """
    records = []
    for number, _ in order.slices():
        record = read_slice(lake, order.key, number)
        if record is None:
            raise _missing(lake, order.key, f"slice {number} of order {order.key} is not finished")
        records.append(record)
    by_table: dict[str, list[Part]] = {}
    for record in records:
        for part in record.parts:
            by_table.setdefault(part.table, []).append(part)
    for table in sorted(by_table, key=lambda name: (name == last, name)):
        # Of a table that has its transaction, files may be gone: compaction or a takedown replaced them, sweep removed
        # those of a fenced order. Then only the answer is wanted.
        settled = lake.table(table).transaction_version(order.key) is not None
        parts = [] if settled else by_table[table]
        lake.commit(table, order.key, [add_action(lake.store, part) for part in parts])
    return records


def _missing(lake: Lake, key: str, what: str) -> GroundlakeError:
    """Why a record is not there: sweep takes those of an order that it has fenced before, else something is wrong."""
    if any(lake.table(name).transaction_version(key) == FENCED for name in ("outcomes", "downloads")):
        return FencedError(f"unit {key} was fenced", remedy="nothing: the next plan takes its images again")
    return DataError(what, remedy="run the stage again")


def _slice_key(key: str, number: int) -> str:
    return f"units/{key}/{number:05d}.json"
