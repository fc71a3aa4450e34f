"""Run DAGs in a process of their own: ``run_dags.py DAGS_FOLDER JOBS``, with Airflow's settings in the environment.

JOBS is a JSON list of ``{"dag": …, "conf": {…}}``. Prints one JSON line per job, marked so that logs do not matter.
"""

from __future__ import annotations

import json
import sys

MARK = "RESULT "


def main(folder: str, jobs: list[dict]) -> None:
    from airflow.utils.db import initdb

    initdb()
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    for job in jobs:
        run = bag.dags[job["dag"]].test(run_conf=job.get("conf", {}))
        sys.stdout.write(f"{MARK}{json.dumps(report(run))}\n")


def report(run) -> dict:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        states, labels = {}, {}
        for ti in run.get_task_instances(session=session):
            name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
            states[name] = str(ti.state)
            labels[name] = ti.rendered_map_index
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)).all()
        return {
            "state": str(run.state),
            "states": states,
            "labels": labels,
            "events": [{"uri": event.asset.uri, "extra": event.extra} for event in events],
        }


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
