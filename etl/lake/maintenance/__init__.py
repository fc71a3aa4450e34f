"""Care for the tables: compaction, vacuum, checkpoints, sweep, gc, sizes.

Every rewrite of committed files goes through ``rewrite``.
"""

from etl.lake.maintenance.broom import Taken
from etl.lake.maintenance.collect import Candidate, Collected, candidates, choose, collect
from etl.lake.maintenance.compaction import TARGET_BYTES, Compacted, compact
from etl.lake.maintenance.files import DataFile, data_files, read_batches, read_file
from etl.lake.maintenance.rewrite import APP, Change, RewriteConflictError, rewrite
from etl.lake.maintenance.stats import TableStats, checkpoint, stats
from etl.lake.maintenance.sweep import Swept, sweep
from etl.lake.maintenance.vacuum import MIN_RETENTION_DAYS, Vacuumed, vacuum

__all__ = [
    "APP",
    "MIN_RETENTION_DAYS",
    "TARGET_BYTES",
    "Candidate",
    "Change",
    "Collected",
    "Compacted",
    "DataFile",
    "RewriteConflictError",
    "Swept",
    "TableStats",
    "Taken",
    "Vacuumed",
    "candidates",
    "checkpoint",
    "choose",
    "collect",
    "compact",
    "data_files",
    "read_batches",
    "read_file",
    "rewrite",
    "stats",
    "sweep",
    "vacuum",
]
