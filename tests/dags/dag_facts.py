"""Read the DAG files in a process of its own, as Airflow's DAG processor does, and print what is true of them as JSON.

``dag_facts.py DAGS_FOLDER``, with Airflow's settings in the environment.
"""

from __future__ import annotations

import json
import sys


def main(folder: str) -> None:
    from airflow.dag_processing.dagbag import DagBag

    before = set(sys.modules)
    bag = DagBag(folder)
    facts = {
        "import_errors": bag.import_errors,
        "seconds": {stat.file.lstrip("/"): stat.duration.total_seconds() for stat in bag.dagbag_stats},
        "modules": sorted({name.split(".")[0] for name in sys.modules}),
        "ours": sorted(name for name in set(sys.modules) - before if name.startswith("etl")),
        "dags": {dag.dag_id: facts_of(dag) for dag in bag.dags.values()},
    }
    sys.stdout.write(f"RESULT {json.dumps(facts)}\n")


def facts_of(dag) -> dict:
    return {
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "description": dag.description,
        "owner": dag.owner,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "start_date": str(dag.start_date) if dag.start_date else None,
        "schedule": type(dag.timetable).__name__,
        "cron": getattr(getattr(dag.timetable, "timetable", dag.timetable), "expression", None),
        "assets": assets_of(dag.timetable),
        "params": sorted(dag.params),
        "tasks": {task.task_id: facts_of_task(task) for task in dag.tasks},
    }


def assets_of(timetable) -> list[str]:
    condition = getattr(timetable, "asset_condition", None)
    return sorted(asset.uri for asset in getattr(condition, "objects", []))


def facts_of_task(task) -> dict:
    return {
        "operator": type(task).__name__,
        "owner": task.owner,
        "pool": task.pool,
        "retries": task.retries,
        "policy": type(task.retry_policy).__name__,
        "trigger_rule": str(task.trigger_rule),
        "weight_rule": str(task.weight_rule),
        "upstream": sorted(task.upstream_task_ids),
        "outlets": [asset.uri for asset in task.outlets],
        "arguments": getattr(task, "arguments", None),
        "label": task.map_index_template,
        "push": task.do_xcom_push,
    }


if __name__ == "__main__":
    main(sys.argv[1])
