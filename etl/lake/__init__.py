"""The lake: Delta tables written exactly once, read through views that show complete units only."""

from etl.lake.lake import Lake
from etl.lake.snapshot import Snapshot

__all__ = ["Lake", "Snapshot"]
