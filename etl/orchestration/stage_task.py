"""From a groundlake command to an Airflow task: a subprocess in profile ``local``, a pod in profile ``kubernetes``.

Both run the same command line with the same ``GROUNDLAKE_*`` environment, and read the same exit codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from etl.orchestration.callbacks import failure_callback
from etl.orchestration.retry import FIRST_DELAY, RETRIES, GroundlakeRetryPolicy
from etl.settings import Settings, load_settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.definitions._internal.expandinput import MappedArgument

OWNER = "groundlake"


def defaults() -> dict[str, Any]:
    """The ``default_args`` of every DAG of groundlake: owner, retries by error type, failure call-back."""
    return {
        "owner": OWNER,
        "retries": RETRIES,
        "retry_delay": FIRST_DELAY,
        "retry_policy": GroundlakeRetryPolicy(),
        "on_failure_callback": failure_callback(),
    }


def stage_task(
    task_id: str,
    arguments: Sequence[str],
    *,
    reference: Mapping[str, Any] | MappedArgument | None = None,
    stage: str | None = None,
    pool: str | None = None,
    gpu: bool = False,
    profile: Literal["local", "kubernetes"] | None = None,
    **operator: Any,
) -> BaseOperator:
    """A task that runs ``groundlake <arguments>``.

    Args:
        task_id: Name of the task inside its DAG or group.
        arguments: Command line; each may be a template, in which ``task.reference`` is the reference.
        reference: What the task works on, as planned: a small mapping with a ``label`` people recognise. In a mapped
            task group it is the group's argument.
        stage: Skip the task, without starting anything, unless ``reference["stages"]`` names this stage.
        pool: Airflow pool; else that of the settings.
        gpu: Whether a pod asks for a GPU, unless the settings say ``device: cpu``.
        profile: Where it runs; else that of the settings.
        **operator: Further arguments of any Airflow operator, such as ``doc_md``.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    settings = load_settings()
    shared: dict[str, Any] = {
        **defaults(),
        "task_id": task_id,
        "pool": pool or settings.stage_pool,
        "weight_rule": "upstream",  # finish what was begun first: a shard's captions before the next shard's tags
        "trigger_rule": "none_failed",  # a stage that was not asked for is skipped, and the next one runs
        "do_xcom_push": False,
        "map_index_template": "{{ task.subject }}",
        "arguments": list(arguments),
        "reference": reference if reference is not None else {},
        "stage": stage,
        **operator,
    }
    if (profile or settings.profile) == "local":
        return _local(settings, shared)
    return _pod(settings, gpu and settings.device != "cpu", shared)


def _local(settings: Settings, shared: dict[str, Any]) -> BaseOperator:
    from etl.orchestration.local import LocalCommandOperator

    return LocalCommandOperator(interpreter=settings.python, **shared)


def _pod(settings: Settings, gpu: bool, shared: dict[str, Any]) -> BaseOperator:
    from etl.orchestration.pod import PodCommandOperator, pod_arguments  # three seconds of imports

    image = settings.pod_image if shared["stage"] else settings.pod_ingest_image
    return PodCommandOperator(**pod_arguments(settings, image, gpu=gpu), **shared)
