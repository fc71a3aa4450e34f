"""The check of a lake (fsck): what is wrong, how much of it, an example, and the command that repairs it."""

from etl.lake.check.findings import ERROR, NOTE, Finding, Scope
from etl.lake.check.phases import PHASES, Phase, check
from etl.lake.check.repair import repair

__all__ = ["ERROR", "NOTE", "PHASES", "Finding", "Phase", "Scope", "check", "repair"]
