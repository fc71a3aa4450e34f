"""Keep the lake fast and small.

**compact** merges the many small files of a week into few large ones. **checkpoint** lets readers open tables without
reading the whole log. **vacuum** removes files that no version anyone may still read names.

- **When**: Sundays at 04:00 UTC; or by hand.
- **Meanwhile**: ingest, annotate, manifest and readers go on; each step is one guarded transaction per table.
- **Again**: safe at any time, also twice at once.
- **Red**: a step could not be done; its log says why. The lake is as it was before that step.
"""

from __future__ import annotations

from airflow.sdk import chain, dag

from etl.orchestration.assets import at
from etl.orchestration.stage_task import defaults, stage_task


@dag(
    schedule=at("0 4 * * 0"),
    catchup=False,
    max_active_runs=1,
    default_args=defaults(),
    tags=["groundlake", "maintenance"],
    description="Compact, checkpoint and vacuum the lake's tables",
    doc_md=__doc__,
)
def maintain() -> None:
    steps = ("compact", "checkpoint", "vacuum")
    chain(*(stage_task(step, ["lake", step], pool="default_pool", trigger_rule="all_success") for step in steps))


maintain()
