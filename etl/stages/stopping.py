"""When an order stops for good: too many of its images fail, so that its results are better not shown at all.

One bad image costs one outcome. But when most images fail, the model, its weights or the source is wrong, and outcomes
that say ``failed`` for good would keep those images from ever being tried again. So the order is fenced before the
slice that settles it is named: nothing of it shows, its images stay pending, and a new request lists them afresh.

An order is stopped once it is certain that it ends above the limit, never on the share of its first slices: slices are
sorted by shape, and small pictures fail more often. Images that failed before are left out on both sides, since an
order that tries failures again is expected to fail; so are those that the upstream stage failed, or that were taken
down. An order with few images to judge is never stopped: the verdict of its run says what failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etl.errors import DataError
from etl.lake import Lake
from etl.lake.commit import FENCED
from etl.lake.orders import Order
from etl.lake.units import fence_unit
from etl.stages.failures import FailureRateError
from etl.storage import NotFoundError

MIN_JUDGED = 100  # images; of fewer, chance alone may fail too many
DEFAULT_LIMIT = 0.5  # for sources that are not in the catalog
NOT_OURS = ("failed/upstream_failed", "failed/taken_down")


class DeadOrderError(DataError):
    """An order of this request was fenced: it can never be committed, however often it is tried."""


class Judge:
    """Adds up the failures of an order's finished slices.

    Args:
        order: The order.
        limit: Share of its images that may fail.
    """

    def __init__(self, order: Order, limit: float) -> None:
        self._limit = limit
        self._retried = {number: sum(map(_was_tried, items)) for number, items in order.slices()}
        self._judged = len(order.items) - sum(self._retried.values())
        self._failed = 0
        self._counts: dict[str, int] = {}

    def add(self, number: int, counts: Mapping[str, int]) -> None:
        """Count a slice; of an image that failed before it is not known whether it failed again: it is let off."""
        own = {key: n for key, n in counts.items() if key.startswith("failed/") and key not in NOT_OURS}
        self._failed += max(0, sum(own.values()) - self._retried[number])
        for key, n in own.items():
            self._counts[key] = self._counts.get(key, 0) + n

    @property
    def problem(self) -> str | None:
        """Why the order has to stop, or None."""
        if self._judged < MIN_JUDGED or self._failed <= self._limit * self._judged:
            return None
        reasons = ", ".join(f"{n} {key}" for key, n in sorted(self._counts.items(), key=lambda one: (-one[1], one[0])))
        return (
            f"at least {self._failed} of {self._judged} images fail, the limit is {self._limit:.0%}: {reasons}, "
            "and the rest was not looked at"
        )


def _was_tried(item: Mapping[str, Any]) -> bool:
    return bool(item.get("tries"))  # absent in orders of earlier versions


def stop_order(lake: Lake, order: Order, problem: str, example: str) -> None:
    """Fence an order for its failures; does nothing to one that was committed meanwhile.

    What was wrong is written before the fence: a try that finds the order fenced says the same again.

    Raises:
        FailureRateError: It is fenced now.
    """
    where = ", ".join(shard[:12] for shard in _shards(order)[:3])
    message = f"order {order.key} of stage {order.header['stage']} (shard {where}) was stopped: {problem}"
    content = {"message": message + (f"; such as: {example}" if example else "")}
    lake.store.put_if_absent(_place(order.key), json.dumps(content).encode())
    check_alive(lake, order)


def check_alive(lake: Lake, order: Order) -> None:
    """Refuse an order that can never be committed.

    Raises:
        FailureRateError: It was stopped for its failures.
        DeadOrderError: It was fenced otherwise: swept, after days without progress.
    """
    try:
        stopped = str(lake.store.read_json(_place(order.key))["message"])
    except NotFoundError:
        stopped = None
    if stopped is not None:
        if fence_unit(lake, order.key, "outcomes"):  # again: whoever wrote the record may have died before the fence
            raise FailureRateError(
                stopped,
                remedy="nothing of it shows, its images are pending; mend the model or the source (or raise its "
                "max_failed_order_share), then make a new request",
            )
    elif lake.table("outcomes").transaction_version(order.key) == FENCED:
        raise dead(order)


def dead(order: Order) -> DeadOrderError:
    """The error for an order that was fenced by others."""
    return DeadOrderError(
        f"order {order.key} of stage {order.header['stage']} was declared dead after days without progress",
        remedy="make a new request: it takes these images again",
    )


def _shards(order: Order) -> Sequence[str]:
    shards: Sequence[str] = order.header.get("shards") or [order.header["shard"]]
    return shards


def _place(key: str) -> str:
    return f"units/{key}/stopped.json"
