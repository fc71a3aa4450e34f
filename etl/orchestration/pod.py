"""Profile ``kubernetes``: a groundlake command as a pod. Imported only when a task of that profile is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import models as k8s

from etl.orchestration.command import FIELDS, MODULE, SUBJECT, skip_unless_asked
from etl.orchestration.place import command_environment
from etl.orchestration.retry import error_of_exit
from etl.settings import Settings

USER = 10001  # of the images; any that is not root
SCHEDULE_TIMEOUT = 3600  # a GPU node may have to be added first
STARTUP_TIMEOUT = 900  # pulling an image with CUDA
GRACE_SECONDS = 60


class PodCommandOperator(KubernetesPodOperator):
    """Runs ``python -m etl.cli.main <arguments>`` in a pod.

    Args:
        reference: What it works on; see ``stage_task``.
        stage: The stage that ``reference["stages"]`` must name.
        **pod: Arguments of KubernetesPodOperator.
    """

    template_fields = (*FIELDS, *KubernetesPodOperator.template_fields)

    def __init__(self, *, reference: Mapping[str, Any], stage: str | None = None, **pod: Any) -> None:
        super().__init__(**pod)
        self.reference = reference
        self.subject = SUBJECT
        self.stage = stage

    def execute(self, context: Context) -> Any:
        skip_unless_asked(self.stage, self.reference)
        return super().execute(context)

    def cleanup(
        self, pod: k8s.V1Pod, remote_pod: k8s.V1Pod, xcom_result: Any = None, context: Context | None = None
    ) -> None:
        """Where both modes end: turn the pod's failure into the exception its exit code stands for."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException as error:
            code = exit_code(remote_pod, self.base_container_name)
            raise error_of_exit(code, f"groundlake {' '.join(self.arguments)}", str(error)) from error


def exit_code(pod: k8s.V1Pod | None, container: str) -> int | None:
    """The exit status of a pod's container, or None when nobody saw one (evicted, node lost)."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status is not None else None) or []
    for status in statuses:
        if status.name == container and status.state is not None and status.state.terminated is not None:
            return int(status.state.terminated.exit_code)
    return None


def pod_arguments(settings: Settings, image: str, *, gpu: bool) -> dict[str, Any]:
    """Everything about the pod but its command line.

    Args:
        settings: Namespace and secret.
        image: What it runs.
        gpu: Whether the pod asks for one GPU.
    """
    return {
        "image": image,
        "namespace": settings.pod_namespace,
        "cmds": ["python", *MODULE],
        "env_vars": command_environment(),
        "env_from": _secrets(settings),
        "container_resources": _resources(gpu),
        "volumes": [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="100Gi"))],
        "volume_mounts": _mounts(settings),
        "security_context": k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        "container_security_context": k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        "automount_service_account_token": False,
        "tolerations": [k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")] if gpu else [],
        "deferrable": True,
        "durable": True,
        "logging_interval": 30,
        "poll_interval": 10,
        "schedule_timeout_seconds": SCHEDULE_TIMEOUT,
        "startup_timeout_seconds": STARTUP_TIMEOUT,
        "termination_grace_period": GRACE_SECONDS,
        "termination_message_policy": "FallbackToLogsOnError",
        "on_finish_action": "delete_succeeded_pod",
        "on_kill_action": "delete_pod",
        "log_pod_spec_on_failure": False,
    }


def _secrets(settings: Settings) -> list[k8s.V1EnvFromSource]:
    # Arguments and plain variables are shown in the UI: credentials come from the cluster only.
    if settings.pod_secret is None:
        return []
    return [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=settings.pod_secret))]


def _resources(gpu: bool) -> k8s.V1ResourceRequirements:
    # A GPU waits for decoded images when it has fewer than some six cores to feed it.
    requests = {"cpu": "6", "memory": "24Gi"} if gpu else {"cpu": "2", "memory": "4Gi"}
    limits = {"memory": requests["memory"], **({"nvidia.com/gpu": "1"} if gpu else {})}
    return k8s.V1ResourceRequirements(requests=requests, limits=limits)


def _mounts(settings: Settings) -> list[k8s.V1VolumeMount]:
    mounts = [k8s.V1VolumeMount(name="scratch", mount_path="/tmp")]  # noqa: S108 - the pod's own
    scratch = PurePosixPath(settings.scratch)
    if not scratch.is_relative_to("/tmp"):  # noqa: S108
        mounts.append(k8s.V1VolumeMount(name="scratch", mount_path=str(scratch), sub_path="groundlake"))
    return mounts
