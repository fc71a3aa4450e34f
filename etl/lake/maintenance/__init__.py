"""Care for the tables: compaction, vacuum, checkpoints, sizes. Every rewrite of committed files goes through here."""

from etl.lake.maintenance.compaction import TARGET_BYTES, Compacted, compact
from etl.lake.maintenance.files import DataFile, data_files, read_file
from etl.lake.maintenance.rewrite import APP, Change, RewriteConflictError, rewrite
from etl.lake.maintenance.stats import TableStats, checkpoint, stats
from etl.lake.maintenance.vacuum import MIN_RETENTION_HOURS, pinned_versions, vacuum

__all__ = [
    "APP",
    "MIN_RETENTION_HOURS",
    "TARGET_BYTES",
    "Change",
    "Compacted",
    "DataFile",
    "RewriteConflictError",
    "TableStats",
    "checkpoint",
    "compact",
    "data_files",
    "pinned_versions",
    "read_file",
    "rewrite",
    "stats",
    "vacuum",
]
