"""The RayService of one revision of a ModelDeployment, and the config that its replicas read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.children import metadata, pods, template
from eagleray_operator.children.stores import Store, volumes_of
from eagleray_operator.settings import Settings
from eagleray_runtime.contract import names as runtime_names
from eagleray_runtime.contract.blocks import Engine, RemoteCode
from eagleray_runtime.contract.config import ResourceIdentity, ServingConfig

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's where PyYAML was built with it: the other takes three quarters of the time of a reconcile."""

DEFAULT_TARGET_ONGOING_REQUESTS = 8
MAX_ONGOING_REQUESTS = 1000

FAST_PATH = {
    # Without these the same model answers about ten times fewer requests (Ray Serve 2.60): HAProxy in front of the
    # replicas' own HTTP servers instead of a Python proxy and an actor call for each request.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": runtime_names.SERVE_MIDDLEWARE,
    # The autoscaler hears of load this many seconds late; 10 by default.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}


@dataclass(frozen=True)
class Serving:
    """What a revision serves: all that its pods are made from, beside the platform's settings."""

    revision: str
    engine: Literal[Engine.NUMPY, Engine.TORCH]
    model: Store
    digest: str | None
    image: str
    remote_code: RemoteCode = RemoteCode.DENY


def bounds(deployment: ModelDeployment) -> tuple[int, int]:
    """Fewest and most replicas that the spec asks for."""
    spec = deployment.spec
    if spec.autoscaling:
        return spec.autoscaling.min_replicas, spec.autoscaling.max_replicas
    number = 1 if spec.replicas is None else spec.replicas
    return number, number


def config(deployment: ModelDeployment, serving: Serving) -> ServingConfig:
    """The replicas' config of that revision."""
    return ServingConfig(
        resource=ResourceIdentity(
            kind="ModelDeployment",
            namespace=deployment.metadata.namespace,
            name=deployment.metadata.name,
            uid=deployment.metadata.uid,
            # The config is part of an immutable revision, and the spec's generation moves on without changing it.
            generation=0,
        ),
        revision=names.ray_service(deployment.metadata.name, serving.revision),
        name=deployment.metadata.name,
        model=serving.model.location,
        digest=serving.digest,
        remote_code=RemoteCode.ALLOW if serving.remote_code is RemoteCode.ALLOW else None,
        engine=serving.engine,
    )


def serve_config(deployment: ModelDeployment) -> dict[str, Any]:
    """Ray Serve's declarative config; only its replica numbers may change within a revision."""
    resources = deployment.spec.resources
    replica: dict[str, Any] = {
        "name": runtime_names.SERVE_DEPLOYMENT,
        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
        "ray_actor_options": {"num_cpus": pods.logical_cpus(resources.cpus), "num_gpus": resources.gpus},
        **_numbers(deployment),
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": runtime_names.SERVE_PORT},  # noqa: S104
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
        "applications": [
            {
                "name": runtime_names.SERVE_APPLICATION,
                "route_prefix": "/",
                "import_path": runtime_names.SERVING_IMPORT_PATH,
                "args": {"config": f"{runtime_names.CONFIG_DIRECTORY}/{runtime_names.CONFIG_FILE}"},
                "deployments": [replica],
            }
        ],
    }


def _numbers(deployment: ModelDeployment) -> dict[str, Any]:
    """How many replicas Serve is to have; whether that is a number or a range is part of the revision."""
    scaling = deployment.spec.autoscaling
    if scaling is None:
        return {"num_replicas": bounds(deployment)[0]}
    return {
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests or DEFAULT_TARGET_ONGOING_REQUESTS,
            "upscale_delay_s": scaling.upscale_delay_seconds,
            "downscale_delay_s": scaling.downscale_delay_seconds,
            "look_back_period_s": max(2, min(30, scaling.upscale_delay_seconds)),
        }
    }


def _pod_numbers(deployment: ModelDeployment) -> dict[str, int]:
    least, most = bounds(deployment)
    return {"replicas": least, "minReplicas": least, "maxReplicas": most}


def build(
    deployment: ModelDeployment, serving: Serving, settings: Settings, live: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """RayService `<name>-<revision>`; a live one that was made otherwise stays so, but for its replica numbers.

    KubeRay is told never to replace its cluster: a new content is a new revision.
    """
    rendered = _render(deployment, serving, settings)
    if live is None or template.is_that_of(live, rendered):
        return rendered
    kept = template.as_made(live)
    kept["spec"]["rayClusterConfig"]["workerGroupSpecs"][0] |= _pod_numbers(deployment)
    config = yaml.safe_load(kept["spec"]["serveConfigV2"])
    replica = config["applications"][0]["deployments"][0]
    wanted = replica | _numbers(deployment)
    if wanted != replica:
        config["applications"][0]["deployments"] = [wanted]
        kept["spec"]["serveConfigV2"] = _text(config)
    return kept


def _text(config: Mapping[str, Any]) -> str:
    return yaml.dump(config, Dumper=DUMPER, sort_keys=False)


def _content(spec: Mapping[str, Any], deployment: ModelDeployment) -> dict[str, Any]:
    """What the pods are made from: the spec without its numbers."""
    config = serve_config(deployment)
    for name in _numbers(deployment):
        del config["applications"][0]["deployments"][0][name]
    cluster = spec["rayClusterConfig"]
    group = {key: value for key, value in cluster["workerGroupSpecs"][0].items() if key not in _pod_numbers(deployment)}
    return {**spec, "serveConfigV2": config, "rayClusterConfig": {**cluster, "workerGroupSpecs": [group]}}


def _render(deployment: ModelDeployment, serving: Serving, settings: Settings) -> dict[str, Any]:
    spec = deployment.spec
    volumes, mounts = volumes_of([serving.model])
    volume, mount = pods.config_volume(names.serving_config(deployment.metadata.name, serving.revision))
    volumes.append(volume)
    mounts.append(mount)
    name = names.ray_service(deployment.metadata.name, serving.revision)
    labels = names.labels(names.MODEL_DEPLOYMENT, deployment.metadata.name, revision=name)
    worker = pods.RayPod(
        image=serving.image,
        cpus=spec.resources.cpus,
        memory=spec.resources.memory or settings.worker_memory,
        gpus=spec.resources.gpus,
        environment={
            **FAST_PATH,
            runtime_names.CONFIG_PATH_ENV: f"{runtime_names.CONFIG_DIRECTORY}/{runtime_names.CONFIG_FILE}",
            **settings.serving_environment,
        },
        volumes=volumes,
        mounts=mounts,
        labels=labels,
        runtime=spec.runtime,
        scheduling=spec.scheduling,
    )
    head = pods.RayPod(
        image=serving.image,
        cpus=settings.head_cpus,
        memory=settings.head_memory,
        environment=worker.environment,
        volumes=volumes,
        mounts=mounts,
        labels=labels,
        runtime=spec.runtime,
        scheduling=spec.scheduling,
    )
    manifest: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata.child(names.MODEL_DEPLOYMENT, deployment.metadata, name, revision=name),
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": {"type": "None"},
            "serveConfigV2": _text(serve_config(deployment)),
            "rayClusterConfig": pods.cluster(
                settings=settings,
                token_secret=names.ray_token_secret(deployment.metadata.uid),
                head=head,
                head_cpus=0,
                workers=worker,
                bounds=bounds(deployment),
                autoscaling=spec.autoscaling is not None,
                idle_seconds=10,
                logs_to_driver=False,
            ),
        },
    }
    return template.marked(manifest, _content(manifest["spec"], deployment))
