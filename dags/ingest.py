"""Url lists to pictures in the lake.

**plan** reads the url lists and cuts what is new into shards of up to 10,000 urls. **shard / download** fetches one
shard and settles every url as *ok* or *failed* with its reason. **settle** tells the `annotate` DAG which sources got
new pictures. **verdict** decides the colour of the run.

- **When**: every night at 02:00 UTC, every source of the catalog with `nightly: true`; or by hand.
- **By hand**: *Trigger* and choose sources. A new source is one file in `catalog/sources/`.
- **One shard**: put the beginning of its id into *Shards*; `groundlake status --shards` prints them. An open shard is
  downloaded, a settled one is downloaded again. Clearing a `download` task only resumes what is not settled.
- **Again**: safe at any time. Settled urls are not fetched again, unless *Retry what failed* is set and they failed
  for a passing reason; a killed download is done by the next run.
- **Red**: the log of `verdict` says why: a download that could not be done, an unreadable list, or a shard of which
  more urls failed than its source's `max_failed_share`. What worked is in the lake and went on to `annotate`.
- **Green with pink tasks**: nothing was to do; the log of `plan` says so.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task, task_group

from etl.orchestration.assets import IMAGES, at
from etl.orchestration.params import ingest_params
from etl.orchestration.place import open_place
from etl.orchestration.planning import plan_ingest_shards, request_name
from etl.orchestration.pools import DOWNLOAD_POOL
from etl.orchestration.settling import publish, settle_ingest
from etl.orchestration.stage_task import defaults, stage_task
from etl.orchestration.verdict import conclude, downloads_of_shards, failed_tasks, states_of_run, too_many_failed


@dag(
    schedule=at("0 2 * * *"),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(),
    params=ingest_params(),
    tags=["groundlake", "images"],
    description="Url lists to pictures in the lake",
    doc_md=__doc__,
)
def ingest() -> None:
    @task
    def plan(params: Any = None, run_id: Any = None, ti: Any = None) -> Any:
        planned = plan_ingest_shards(open_place(), params, request_name("ingest", run_id))
        ti.xcom_push(key="problems", value=planned.problems)
        return planned.references

    @task_group
    def shard(reference: Any) -> None:
        stage_task(
            "download",
            ["ingest", "shard", "--shard", "{{ task.reference.shard }}", "--attempt", "{{ task.reference.attempt }}"],
            reference=reference,
            pool=DOWNLOAD_POOL,
        )

    @task(outlets=[IMAGES], trigger_rule="all_done")
    def settle(references: Any, outlet_events: Any = None, run_id: Any = None) -> None:
        extra = settle_ingest(open_place(), references or [], request_name("ingest", run_id))
        publish(IMAGES, extra, outlet_events)

    @task(trigger_rule="all_done")
    def verdict(references: Any, ti: Any = None) -> None:
        place, references = open_place(), references or []
        counted = downloads_of_shards(place.lake, references)
        found = failed_tasks(states_of_run(get_current_context()), references)
        found += ti.xcom_pull(task_ids="plan", key="problems") or []
        found += too_many_failed(place.catalog, counted)
        conclude(found, counted, "read the log of what failed, mend the cause, then clear the failed tasks of this run")

    planned = plan()
    shard.expand(reference=planned) >> settle(planned) >> verdict(planned)


ingest()
