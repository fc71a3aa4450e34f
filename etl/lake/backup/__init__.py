"""A consistent copy of a lake in another place, and back."""

from etl.lake.backup.copying import Copied
from etl.lake.backup.lakes import backup, restore

__all__ = ["Copied", "backup", "restore"]
