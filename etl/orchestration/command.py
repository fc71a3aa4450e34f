"""What the local and the pod operator share: which command, for what, and whether it was asked for at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

MODULE = ["-m", "etl.cli.main"]
SUBJECT = "{{ task.reference.label | default('') }}"
FIELDS = ("reference", "subject")  # rendered before the fields whose templates use them


def skip_unless_asked(stage: str | None, reference: Mapping[str, Any]) -> None:
    """End a task as skipped when its reference does not name its stage.

    Raises:
        AirflowSkipException: It does not.
    """
    asked = reference.get("stages")
    if stage is not None and asked is not None and stage not in asked:
        raise AirflowSkipException(f"stage {stage} was not asked for; this run does: {', '.join(asked)}")
