"""What the DAGs hand to each other, and when they run by themselves."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, CronTriggerTimetable

IMAGES = Asset(name="images", uri="groundlake://lake/images", group="lake")
ANNOTATIONS = Asset(name="annotations", uri="groundlake://lake/annotations", group="lake")
MANIFESTS = Asset(name="manifests", uri="groundlake://lake/manifests", group="lake")


def at(cron: str) -> CronTriggerTimetable:
    """A schedule at fixed times (UTC) whose first run is the next one, never the one just missed.

    Airflow treats ``run_immediately=False`` like "if less than a tenth of the period has passed": a deployment at
    three in the morning would start the nightly run of two o'clock. A delay of zero means never, as long as the DAG
    has no start date.
    """
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0))
