"""Whoever still works on an order that sweep removed is told that it was fenced, not that the lake is damaged."""

from __future__ import annotations

import pytest
from rows import rows

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.commit import FencedError
from etl.lake.orders import commit_order, finish_slice, open_order, order_key, read_slice
from etl.lake.units import fence_unit

KEY, IMAGE = "0123456789abcdef0123456789abcdef", "a" * 32


def begin(lake: Lake) -> object:
    order = open_order(lake, KEY, {"stage": "tag"}, lambda: [{"image_id": IMAGE}])
    finish_slice(
        lake,
        KEY,
        0,
        {"outcomes": rows("outcomes", {"image_id": IMAGE, "shard_id": IMAGE, "annotator_id": IMAGE, "unit": KEY})},
        {"ok": 1},
    )
    return order


def remove_records(lake: Lake) -> None:
    lake.store.delete(f"units/{KEY}/00000.json")
    lake.store.delete(order_key(KEY))


def test_a_commit_after_sweep_says_that_the_order_was_fenced(lake: Lake) -> None:
    order = begin(lake)
    assert fence_unit(lake, KEY, "outcomes")
    remove_records(lake)
    with pytest.raises(FencedError):
        commit_order(lake, order, last="outcomes")


def test_records_that_vanish_from_an_order_that_is_alive_are_damage(lake: Lake) -> None:
    order = begin(lake)
    remove_records(lake)
    with pytest.raises(DataError, match="not finished"):
        commit_order(lake, order, last="outcomes")


def test_a_record_that_vanishes_while_it_is_looked_for_is_just_not_there(lake: Lake) -> None:
    begin(lake)
    remove_records(lake)
    assert read_slice(lake, KEY, 0) is None
