"""Processes that take care of a lake, each kind again and again, until they are killed."""

from __future__ import annotations

from pathlib import Path

from rows import image, rows

from etl.lake import Lake, maintenance
from etl.lake.ids import digest
from etl.lake.orders import commit_order, finish_slice, open_order, read_slice
from etl.lake.parts import Part, add_action
from etl.settings import Settings

TABLES, IMAGES = ("tags", "outcomes"), 15
OLD = ("old0", "old1")  # annotators that gc drops


def key(number: int) -> str:
    return digest("order", number)


def work(lake: Lake, number: int, annotator: str, last: str = "outcomes") -> None:
    """An order up to the commit of a table; the other tables' parts are written."""
    images = [image(f"{number:04x}{n:02x}") for n in range(IMAGES)]
    header = {"stage": "tag", "annotator_id": annotator, "upstream": {}}
    order = open_order(lake, key(number), header, lambda: [{"image_id": one} for one in images])
    for slice_, items in order.slices():
        if read_slice(lake, order.key, slice_) is None:
            made = [{"image_id": i["image_id"], "unit": order.key, "annotator_id": annotator} for i in items]
            finish_slice(lake, order.key, slice_, {name: rows(name, *made) for name in TABLES}, {})
    if last == "outcomes":
        commit_order(lake, order, last)
    elif last == "tags":
        parts = [part for slice_, _ in order.slices() for part in _parts(lake, slice_, order.key)]
        lake.commit("tags", order.key, [add_action(lake.store, part) for part in parts if part.table == "tags"])


def _parts(lake: Lake, slice_: int, unit: str) -> tuple[Part, ...]:
    record = read_slice(lake, unit, slice_)
    return record.parts if record else ()


def live(role: str, uri: str, settings: Settings, notes: Path) -> None:
    """One process of a role."""
    lake = Lake.open(uri, settings)
    while True:
        if role == "compact":
            for name in TABLES:
                maintenance.compact(lake, name)
        elif role == "sweep":
            maintenance.sweep(lake)
        elif role == "collect":
            maintenance.collect(lake, OLD)
        else:
            number = 1000 + sum(1 for _ in notes.iterdir())
            work(lake, number, "live")
            (notes / str(number)).touch()
