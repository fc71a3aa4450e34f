"""Annotations to training manifests.

**plan** names the manifests. **manifest / build** runs the SQL of one and writes a version folder that ends with
`manifest.lock.json`. **settle** announces new versions. **verdict** decides the colour of the run.

- **When**: as soon as `annotate` has published new results; or by hand.
- **By hand**: *Trigger* and choose manifests. Empty: all with `on_new_annotations: true` in `catalog/manifests/`.
- **Again**: safe at any time. The same rows make the same version.
- **Red**: the log of `verdict` names the manifests that could not be built, the log of their `build` says why (most
  often the SQL). A version folder without a lock file is not a version: nothing half-built is taken for whole.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task, task_group

from etl.orchestration.assets import ANNOTATIONS, MANIFESTS
from etl.orchestration.params import manifest_params
from etl.orchestration.place import open_place
from etl.orchestration.planning import plan_manifests
from etl.orchestration.settling import publish, settle_manifests
from etl.orchestration.stage_task import defaults, stage_task
from etl.orchestration.verdict import conclude, failed_tasks, states_of_run


@dag(
    schedule=[ANNOTATIONS],
    catchup=False,
    max_active_runs=1,
    default_args=defaults(),
    params=manifest_params(),
    tags=["groundlake", "manifests"],
    description="Annotations to training manifests",
    doc_md=__doc__,
)
def manifest() -> None:
    @task
    def plan(params: Any = None) -> Any:
        return plan_manifests(open_place(), params)

    @task_group(group_id="manifest")
    def one(reference: Any) -> None:
        stage_task(
            "build", ["manifest", "build", "{{ task.reference.name }}"], reference=reference, pool="default_pool"
        )

    @task(outlets=[MANIFESTS], trigger_rule="all_done")
    def settle(references: Any, outlet_events: Any = None) -> None:
        publish(MANIFESTS, settle_manifests(open_place(), references or []), outlet_events)

    @task(trigger_rule="all_done")
    def verdict(references: Any) -> None:
        found = failed_tasks(states_of_run(get_current_context()), references or [])
        conclude(found, [], "read the log of the build, correct the manifest's SQL or options, then clear the task")

    planned = plan()
    one.expand(reference=planned) >> settle(planned) >> verdict(planned)


manifest()
