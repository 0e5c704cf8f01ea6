"""Makers of objects for tests: what matters to the test is named there, the rest is as usual."""

from datetime import UTC, datetime, timedelta
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.reconcilers.plan import Observed
from eagleray_operator.settings import ModelStore, Settings
from eagleray_runtime.contract.config import ResourceIdentity
from eagleray_runtime.contract.reports import DataReport, Metric, ProgressReport, ResultReport, SavedModel, Stage

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = b"a key of the tests"
SETTINGS = Settings(
    reports_url="http://reports/v1/reports",
    model_store=ModelStore(uri="s3://models", secret_name="model-store"),
)
DIGEST = "sha256:" + "a" * 64


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def metadata(name: str, uid: str, generation: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "default",
        "uid": uid,
        "generation": generation,
        "resourceVersion": "1",
        "creationTimestamp": "2026-11-24T11:59:00Z",
    }


def job_manifest(name: str = "iris", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> Manifest:
    defaults = {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TrainingJob",
        "metadata": metadata(name, f"uid-of-job-{name}", generation),
        "spec": defaults | spec,
        "status": status or {},
    }


def job(name: str = "iris", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> TrainingJob:
    return TrainingJob.model_validate(job_manifest(name, status, generation, **spec))


def deployment_manifest(name: str = "iris", status: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    defaults: dict[str, Any] = {"model": {"uri": "s3://models/default/iris"}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": metadata(name, f"uid-of-deployment-{name}"),
        "spec": defaults | spec,
        "status": status or {},
    }


def deployment(name: str = "iris", status: dict[str, Any] | None = None, **spec: Any) -> ModelDeployment:
    return ModelDeployment.model_validate(deployment_manifest(name, status, **spec))


def live(manifest: Manifest, uid: str | None = None, status: dict[str, Any] | None = None) -> Manifest:
    """A rendered child as the cluster has it."""
    made = {"uid": uid or f"uid-of-{manifest['metadata']['name']}", "resourceVersion": "1"}
    result = {**manifest, "metadata": manifest["metadata"] | made}
    if status is not None:
        result["status"] = status
    return result


def observed(*children: Manifest, **more: Any) -> Observed:
    return Observed(children={Ref.of(child): child for child in children}, **more)


def ray_cluster(name: str, owner: Manifest, **status: Any) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-of-{name}",
            "labels": owner["metadata"]["labels"],
            "ownerReferences": [{"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}],
        },
        "spec": owner["spec"].get("rayClusterSpec") or owner["spec"].get("rayClusterConfig"),
        "status": status,
    }


def pod(name: str, labels: dict[str, str], node_type: str = "worker", **status: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-of-{name}",
            "labels": labels | {"ray.io/node-type": node_type},
        },
        "spec": {"nodeName": "node1"},
        "status": status,
    }


def identity(name: str = "iris") -> ResourceIdentity:
    return ResourceIdentity(kind="TrainingJob", namespace="default", name=name, uid=f"uid-of-job-{name}", generation=1)


def progress(epoch: int = 3, attempt: int = 1, workers: int = 1, stage: Stage = Stage.TRAINING) -> ProgressReport:
    return ProgressReport(
        resource=identity(), attempt=attempt, stage=stage, epoch=epoch, epochs=20, percent=15.0, workers=workers
    )


def result(attempt: int = 1, uri: str = "s3://models/default/iris/x") -> ResultReport:
    return ResultReport(
        resource=identity(),
        attempt=attempt,
        model=SavedModel(uri=uri, digest=DIGEST, size_bytes=1000, parameters=10, engine="NumPy"),
        data=DataReport(rows=150, training=120, validation=15, test=15),
        metrics=[Metric(name="Accuracy", part="Test", value=0.95)],
        progress=progress(20, attempt, stage=Stage.SAVING),
    )


def condition(status: dict[str, Any] | Any, type_: str) -> dict[str, Any]:
    return next(entry for entry in status["conditions"] if entry["type"] == type_)
