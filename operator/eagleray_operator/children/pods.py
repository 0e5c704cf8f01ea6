"""Pod templates of Ray clusters: restricted pod security, and no Kubernetes API token within reach of the user's code."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eagleray_operator.api.common import EnvVar, Runtime, Scheduling
from eagleray_operator.settings import Settings
from eagleray_runtime.contract import names as runtime_names

GPU = "nvidia.com/gpu"
RAY_USER = 1000

CONTAINER_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": RAY_USER,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# fsGroup lets uid 1000 write to volumes that a provisioner hands out as root's.
POD_SECURITY = {"runAsNonRoot": True, "fsGroup": RAY_USER, "seccompProfile": {"type": "RuntimeDefault"}}

KUBE_API_VOLUME = "kube-api"


@dataclass(frozen=True)
class RayPod:
    """What the Ray container of one group gets; `gpus` is a whole number of devices.

    `restarts` tells whether the kubelet starts it again when it has ended; `runtime` and `scheduling` are the user's.
    """

    image: str
    cpus: float
    memory: str
    gpus: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    restarts: bool = True
    runtime: Runtime = field(default_factory=Runtime)
    scheduling: Scheduling = field(default_factory=Scheduling)


def logical_cpus(cpus: float) -> int:
    """CPUs that Ray counts on a pod: whole ones (`ray start --num-cpus` takes no fraction), at least one."""
    return max(1, math.ceil(cpus))


def quantity(value: float) -> str:
    """A CPU number as a Kubernetes quantity."""
    return f"{value:g}" if value == int(value) else f"{round(value * 1000)}m"


_UNITS = {"m": 1e-3, "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{prefix}i": 1024 ** (power + 1) for power, prefix in enumerate("KMGT")
}


def total_memory(*quantities: str) -> str:
    """The sum of Kubernetes quantities of memory, rounded up to whole MiB."""
    size = sum(float(text.rstrip("mkKMGTi")) * _UNITS[text.lstrip("0123456789.")] for text in quantities)
    mebibytes = math.ceil(size / 1024**2)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def template(pod: RayPod, settings: Settings, *, kube_api: bool = False) -> dict[str, Any]:
    """Pod template of a group; `kube_api` adds the volume that only the autoscaler's container mounts."""
    resources: dict[str, Any] = {
        "requests": {"cpu": quantity(pod.cpus), "memory": pod.memory},
        "limits": {"memory": pod.memory},
    }
    if pod.gpus:
        resources["limits"][GPU] = str(pod.gpus)
    environment = {
        # Ray starts workers at niceness 15 by default, which starves them beside any other process of the node.
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would allow a worker as many threads as its logical CPUs, which are whole numbers.
        "OMP_NUM_THREADS": str(logical_cpus(pod.cpus)),
        **pod.environment,
    }
    volumes = list(pod.volumes)
    if kube_api:
        volumes.append(_kube_api_volume())
    return {
        "metadata": {"labels": pod.labels},
        "spec": {
            # KubeRay would mount the autoscaler's token, which may delete pods, into the container of the user's code.
            "automountServiceAccountToken": False,
            **({} if pod.restarts else {"restartPolicy": "Never"}),
            **pod.scheduling.model_dump(mode="json", by_alias=True, exclude_none=True),
            **_pull_secrets(pod.runtime),
            "securityContext": POD_SECURITY,
            "containers": [
                {
                    "name": "ray",
                    "image": pod.image,
                    "imagePullPolicy": settings.images.pull_policy,
                    "securityContext": CONTAINER_SECURITY,
                    "env": _variables(environment, pod.runtime.env or []),
                    "resources": resources,
                    "volumeMounts": pod.mounts,
                }
            ],
            "volumes": volumes,
        },
    }


def _variables(ours: Mapping[str, str], theirs: Sequence[EnvVar]) -> list[dict[str, Any]]:
    """Variables by name; the user's stand in for ours."""
    by_name: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in ours.items()}
    for variable in theirs:
        found = variable.model_dump(by_alias=True, exclude_none=True, exclude={"name"})
        by_name[variable.name] = found if variable.value is not None else {"valueFrom": found}
    return [{"name": name, **content} for name, content in sorted(by_name.items())]


def _pull_secrets(runtime: Runtime) -> dict[str, Any]:
    named = runtime.image_pull_secrets
    return {"imagePullSecrets": [secret.model_dump() for secret in named]} if named else {}


def _kube_api_volume() -> dict[str, Any]:
    return {
        "name": KUBE_API_VOLUME,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    }


def autoscaler_options(settings: Settings, idle_seconds: int) -> dict[str, Any]:
    """Options of Ray's in-tree autoscaler; idle workers are given back after `idle_seconds`."""
    return {
        "version": "v2",
        "idleTimeoutSeconds": idle_seconds,
        "imagePullPolicy": settings.images.pull_policy,
        "securityContext": CONTAINER_SECURITY,
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": [
            {
                "name": KUBE_API_VOLUME,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": True,
            }
        ],
    }


def config_volume(config_map: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Volume and mount of the runtime's config file."""
    return (
        {"name": "config", "configMap": {"name": config_map, "items": [{"key": "config.json", "path": "config.json"}]}},
        {"name": "config", "mountPath": runtime_names.CONFIG_DIRECTORY, "readOnly": True},
    )


def report_token_volume() -> tuple[dict[str, Any], dict[str, Any]]:
    """Volume and mount of the token that reports are sent with; the apiserver renews it."""
    token = {"audience": runtime_names.REPORT_AUDIENCE, "expirationSeconds": 3600, "path": "token"}
    directory = runtime_names.REPORT_TOKEN_PATH.rsplit("/", 1)[0]
    return (
        {"name": "report-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "report-token", "mountPath": directory, "readOnly": True},
    )


def cluster(
    *,
    settings: Settings,
    token_secret: str,
    head: RayPod,
    head_cpus: int,
    workers: RayPod | None = None,
    bounds: tuple[int, int] = (0, 0),
    autoscaling: bool = False,
    idle_seconds: int = 60,
    logs_to_driver: bool = True,
) -> dict[str, Any]:
    """A RayClusterSpec with a head that counts `head_cpus` CPUs and, if `workers` is given, one group of them.

    `logs_to_driver` tells whether there is a driver that shows what its workers print.
    """
    # KubeRay drops a flag that is "false".
    everywhere = {} if logs_to_driver else {"include-log-monitor": "0"}
    spec: dict[str, Any] = {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token", "secretName": token_secret},
        "enableInTreeAutoscaling": autoscaling,
        "headGroupSpec": {
            "rayStartParams": everywhere | {"dashboard-host": "0.0.0.0", "num-cpus": str(head_cpus)},  # noqa: S104
            "template": template(head, settings, kube_api=autoscaling),
        },
    }
    if autoscaling:
        spec["autoscalerOptions"] = autoscaler_options(settings, idle_seconds)
    if workers is not None:
        spec["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": bounds[0],
                "minReplicas": bounds[0],
                "maxReplicas": bounds[1],
                "rayStartParams": everywhere | {"num-cpus": str(logical_cpus(workers.cpus))},
                "template": template(workers, settings),
            }
        ]
    return spec
