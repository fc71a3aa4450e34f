from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

from etl.orchestration.pod import PodCommandOperator
from etl.orchestration.retry import StageBadData, StageRetryable
from etl.orchestration.stage_task import stage_task

REFERENCE = {"request": "abc", "group": 3, "label": "pets 1a2b3c4d", "stages": ["ground"]}
ARGUMENTS = [
    "stage",
    "run",
    "ground",
    "--request",
    "{{ task.reference.request }}",
    "--group",
    "{{ task.reference.group }}",
]


def task(profile: Any, **options: Any) -> Any:
    return stage_task("ground", ARGUMENTS, reference=REFERENCE, stage="ground", gpu=True, profile=profile, **options)


def rendered(operator: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="annotate", task_id="group.ground", run_id="manual__1", map_index=3, try_number=1, task=operator
    )
    operator.render_template_fields({"ti": ti, "task": operator})
    return operator


def pod_of(operator: Any) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="annotate", task_id="ground", run_id="r", map_index=3, try_number=1)
    context = {"ti": ti, "run_id": "r", "dag": None}
    return ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(context, dry_run=True))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_LAKE", "s3://bucket/lake")
    monkeypatch.setenv("GROUNDLAKE_POD_IMAGE", "registry.example/groundlake@sha256:1")
    monkeypatch.setenv("GROUNDLAKE_POD_INGEST_IMAGE", "registry.example/ingest@sha256:2")
    monkeypatch.setenv("GROUNDLAKE_POD_NAMESPACE", "stages")
    monkeypatch.setenv("GROUNDLAKE_POD_SECRET", "store-access")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")


@pytest.fixture
def container(environment: None) -> dict[str, Any]:
    return pod_of(rendered(task("kubernetes")))["spec"]["containers"][0]


def test_pod_runs_the_command_line_of_the_subprocess(environment: None, container: dict[str, Any]) -> None:
    local = rendered(task("local"))
    assert container["command"] + container["args"] == ["python", *local.command[1:]]
    assert container["args"] == ["stage", "run", "ground", "--request", "abc", "--group", "3"]


def test_pod_gets_the_groundlake_environment_of_the_subprocess_and_nothing_of_airflow(
    container: dict[str, Any],
) -> None:
    from etl.orchestration.local import _environment

    of_subprocess = {name: value for name, value in _environment().items() if name.startswith("GROUNDLAKE_")}
    assert {entry["name"]: entry["value"] for entry in container["env"]} == of_subprocess
    assert of_subprocess["GROUNDLAKE_LAKE"] == "s3://bucket/lake"


def test_secrets_come_from_the_cluster_only(container: dict[str, Any]) -> None:
    assert container["envFrom"] == [{"secretRef": {"name": "store-access"}}]


def test_container_may_do_no_more_than_it_needs(environment: None) -> None:
    spec = pod_of(rendered(task("kubernetes")))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    limits = spec["containers"][0]["securityContext"]
    assert limits["allowPrivilegeEscalation"] is False
    assert limits["readOnlyRootFilesystem"] is True
    assert limits["capabilities"] == {"drop": ["ALL"]}


def test_stage_asks_for_a_gpu_and_the_cores_to_feed_it(container: dict[str, Any]) -> None:
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert int(container["resources"]["requests"]["cpu"]) >= 4


@pytest.mark.parametrize("why", ["the stage has no network", "the settings say cpu"])
def test_no_gpu_is_asked_for_where_none_is_used(why: str, environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "the settings say cpu":
        monkeypatch.setenv("GROUNDLAKE_DEVICE", "cpu")
    operator = stage_task("x", ["lake", "compact"], gpu="cpu" in why, profile="kubernetes")
    spec = pod_of(rendered(operator))["spec"]
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]


def test_scratch_folder_of_the_settings_is_writable(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", "/scratch")
    mounts = pod_of(rendered(task("kubernetes")))["spec"]["containers"][0]["volumeMounts"]
    assert {mount["mountPath"] for mount in mounts} == {"/tmp", "/scratch"}


def test_pod_waits_off_the_worker_and_ends_with_its_task(environment: None) -> None:
    operator = task("kubernetes")
    assert operator.deferrable
    assert operator.durable
    assert operator.on_kill_action.value == "delete_pod"
    assert operator.on_finish_action.value == "delete_succeeded_pod"
    assert operator.termination_grace_period == 60
    assert operator.schedule_timeout_seconds > operator.startup_timeout_seconds > 120
    assert not operator.log_pod_spec_on_failure


def test_stage_that_was_not_asked_for_is_skipped_without_a_pod(environment: None) -> None:
    operator = stage_task("tag", [], reference=REFERENCE, stage="tag", profile="kubernetes")
    with pytest.raises(AirflowSkipException):
        operator.execute({})


@pytest.mark.parametrize(
    ("code", "expected"),
    [(65, StageBadData), (78, StageBadData), (75, StageRetryable), (137, StageRetryable), (None, StageRetryable)],
)
def test_exit_status_of_the_pod_decides_whether_it_is_tried_again(
    environment: None, monkeypatch: pytest.MonkeyPatch, code: int | None, expected: type[Exception]
) -> None:
    operator: PodCommandOperator = rendered(task("kubernetes"))
    without_cluster(operator, monkeypatch)
    with pytest.raises(expected):
        operator.cleanup(pod("Failed", code), pod("Failed", code))


def test_succeeded_pod_raises_nothing(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    operator: PodCommandOperator = rendered(task("kubernetes"))
    without_cluster(operator, monkeypatch)
    operator.cleanup(pod("Succeeded", 0), pod("Succeeded", 0))


def without_cluster(operator: PodCommandOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("process_pod_deletion", "patch_already_checked", "is_istio_enabled"):
        monkeypatch.setattr(operator, name, lambda *_, **__: None)


def pod(phase: str, code: int | None) -> k8s.V1Pod:
    terminated = None if code is None else k8s.V1ContainerStateTerminated(exit_code=code)
    status = k8s.V1ContainerStatus(
        name="base",
        image="",
        image_id="",
        ready=False,
        restart_count=0,
        state=k8s.V1ContainerState(terminated=terminated),
    )
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", namespace="n", annotations={}),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
        status=k8s.V1PodStatus(phase=phase, container_statuses=[status]),
    )


def test_a_pod_without_a_stage_runs_the_image_that_has_img2dataset(environment: None) -> None:
    ingest = stage_task("download", ["ingest", "shard", "--shard", "a"], profile="kubernetes")

    assert pod_of(rendered(ingest))["spec"]["containers"][0]["image"] == "registry.example/ingest@sha256:2"
