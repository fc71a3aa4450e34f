"""Pictures to tags, boxes, masks, captions and embeddings.

**plan** looks up which images lack a fresh result and groups their shards. Each **group** runs
*tag, ground, caption, embed*, one command per stage. **settle** tells the `manifest` DAG. **verdict** decides the
colour of the run. A group's captions do not wait for other groups' tags, and a failed group holds up no other.

- **When**: as soon as `ingest` has new pictures; every night at 03:00 UTC for what was left; or by hand.
- **By hand**: *Trigger* and choose sources, shards, stages, models. All empty: whatever is not fresh.
- **One shard**: put the beginning of its id into *Shards*; `groundlake status --shards` prints them.
- **Another model**: *Models*, `tag=NAME`. Its results are kept beside the old ones until `groundlake models promote`.
- **Again**: safe at any time. Images with fresh results are not computed again; a killed stage resumes at its slice.
- **Red**: the log of `verdict` says why: a stage that could not run, or a shard of which more images failed than its
  source's `max_failed_share`. What worked is published. Mend the cause, then clear the failed tasks.
- **Pink tasks**: stages that *Stages* does not name, or nothing to do.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, dag, get_current_context, task, task_group

from etl.orchestration.assets import ANNOTATIONS, IMAGES, at
from etl.orchestration.params import annotate_params
from etl.orchestration.place import open_place
from etl.orchestration.planning import plan_annotation_groups, request_name, sources_of_events
from etl.orchestration.settling import publish, settle_annotate
from etl.orchestration.stage_task import defaults, stage_task
from etl.orchestration.verdict import conclude, failed_tasks, outcomes_of_references, states_of_run, too_many_failed
from etl.settings.catalog import STAGES

ARGUMENTS = ["--request", "{{ task.reference.request }}", "--group", "{{ task.reference.group }}"]


@dag(
    schedule=AssetOrTimeSchedule(timetable=at("0 3 * * *"), assets=[IMAGES]),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(),
    params=annotate_params(),
    tags=["groundlake", "annotations"],
    description="Pictures to tags, boxes, masks, captions and embeddings",
    doc_md=__doc__,
)
def annotate() -> None:
    @task
    def plan(params: Any = None, run_id: Any = None, triggering_asset_events: Any = None) -> Any:
        sources = sources_of_events(triggering_asset_events)
        return plan_annotation_groups(open_place(), params, request_name("annotate", run_id), sources)

    @task_group
    def group(reference: Any) -> None:
        before = None
        for stage in STAGES:
            command = ["stage", "run", stage, *ARGUMENTS]
            this = stage_task(stage, command, reference=reference, stage=stage, gpu=True)
            before = this if before is None else before >> this

    @task(outlets=[ANNOTATIONS], trigger_rule="all_done")
    def settle(references: Any, outlet_events: Any = None) -> None:
        publish(ANNOTATIONS, settle_annotate(open_place(), references or []), outlet_events)

    @task(trigger_rule="all_done")
    def verdict(references: Any) -> None:
        place, references = open_place(), references or []
        counted = outcomes_of_references(place.lake, references)
        found = failed_tasks(states_of_run(get_current_context()), references)
        found += too_many_failed(place.catalog, counted)
        conclude(found, counted, "read the log of what failed, mend the cause, then clear the failed tasks of this run")

    planned = plan()
    group.expand(reference=planned) >> settle(planned) >> verdict(planned)


annotate()
