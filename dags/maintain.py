"""Keep the lake fast, small and clean.

**compact** merges the many small files of a day into few large ones. **checkpoint** lets readers open tables without
reading the whole log. **purge** finishes takedowns, from older versions and pinned manifests too. **vacuum** deletes
files that no version anyone may still read names. **sweep** removes what killed processes left behind. **check** looks
whether everything adds up, and reads a sample of the pictures. **verdict** decides the colour of the run.

- **When**: every day at 04:00 UTC, since takedowns have a deadline; or by hand.
- **Meanwhile**: ingest, annotate, manifest and readers go on; each change is one guarded transaction on one table.
- **Again**: safe at any time, also twice at once.
- **Red**: the log of `verdict` names the steps that failed, the log of each says why and what to do. A step that fails
  stops no other: none needs what another one did, a takedown has its deadline, and a check is worth most after trouble.
"""

from __future__ import annotations

from airflow.sdk import chain, dag, get_current_context, task

from etl.orchestration.assets import at
from etl.orchestration.stage_task import defaults, stage_task
from etl.orchestration.verdict import conclude, failed_tasks, states_of_run

STEPS = {
    "compact": ["lake", "compact"],
    "checkpoint": ["lake", "checkpoint"],
    "purge": ["takedown", "purge"],
    "vacuum": ["lake", "vacuum"],
    "sweep": ["lake", "sweep"],
    "check": ["lake", "check", "--sample", "1000"],
}


@dag(
    schedule=at("0 4 * * *"),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(),
    tags=["groundlake", "maintenance"],
    description="Compact, purge, vacuum, sweep and check the lake",
    doc_md=__doc__,
)
def maintain() -> None:
    @task(trigger_rule="all_done")
    def verdict() -> None:
        found = failed_tasks(states_of_run(get_current_context()), [])
        conclude(found, [], "read the log of each step named, do what it says, then clear the step")

    steps = [stage_task(name, command, pool="default_pool", trigger_rule="all_done") for name, command in STEPS.items()]
    chain(*steps, verdict())


maintain()
