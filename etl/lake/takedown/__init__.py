"""Takedowns: pictures that must be forgotten, hidden at once, erased soon, and kept out for good.

``add`` writes tombstones; ``purge`` erases, as often as it is called, until nothing is left.
"""

from etl.lake.takedown.add import Added, Survey, TableEffect, add, survey
from etl.lake.takedown.manifests import Holder, holders
from etl.lake.takedown.purge import Progress, blocking_orders, purge
from etl.lake.takedown.request import (
    IMAGE_ID,
    SHA256,
    URL,
    Request,
    Target,
    TargetError,
    Tombstone,
    read_targets,
    target,
)
from etl.lake.takedown.tombstones import PURGED, REQUESTED, REWRITTEN, Event, Takedown, read_takedowns

__all__ = [
    "IMAGE_ID",
    "PURGED",
    "REQUESTED",
    "REWRITTEN",
    "SHA256",
    "URL",
    "Added",
    "Event",
    "Holder",
    "Progress",
    "Request",
    "Survey",
    "TableEffect",
    "Takedown",
    "Target",
    "TargetError",
    "Tombstone",
    "add",
    "blocking_orders",
    "holders",
    "purge",
    "read_takedowns",
    "read_targets",
    "survey",
    "target",
]
