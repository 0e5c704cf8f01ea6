from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eagleray_operator.api import names
from eagleray_operator.metrics import Metrics

Manifest = dict[str, Any]


class Cache:
    def __init__(self, *objects: Manifest) -> None:
        self.objects = objects

    def of_kind(self, kind: str) -> list[Manifest]:
        return [found for found in self.objects if found["kind"] == kind]


def job(**status: Any) -> Manifest:
    metadata = {"namespace": "ml", "name": "iris", "creationTimestamp": "2026-11-24T10:00:00Z"}
    return {"kind": "TrainingJob", "metadata": metadata, "spec": {"model": {"family": "LogisticRegression"}}, "status": status}


def deployment(**status: Any) -> Manifest:
    metadata = {"namespace": "ml", "name": "iris", "creationTimestamp": "2026-11-24T10:00:00Z"}
    return {"kind": "ModelDeployment", "metadata": metadata, "spec": {}, "status": status}


def pod(phase: str, gpus: str | None, **labels: str) -> Manifest:
    limits = {"cpu": "1"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    spec = {"containers": [{"resources": {"limits": limits}}, {}]}
    return {
        "kind": "Pod",
        "metadata": {"namespace": "ml", "name": "pod", "labels": labels},
        "spec": spec,
        "status": {"phase": phase},
    }


def exposing(*objects: Manifest, leading: bool = True) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="0.1.0")
    metrics.expose(Cache(*objects))
    metrics.leader(leading)
    return registry


KEY = {"namespace": "ml", "name": "iris"}


def test_a_job_shows_its_progress_losses_conditions_and_scores() -> None:
    registry = exposing(
        job(
            conditions=[{"type": "Succeeded", "status": "Unknown", "reason": "Training"}],
            progress={
                "percent": 40,
                "epoch": 8,
                "epochs": 20,
                "workers": 3,
                "estimatedRemainingSeconds": 12,
                "history": [{"epoch": 7, "training": 0.9}, {"epoch": 8, "training": 0.5, "validation": 0.6}],
            },
            attempts=[{"number": 2}, {"number": 1}],
            model={"engine": "NumPy", "digest": "sha256:ab"},
            evaluation={"metrics": [{"name": "accuracy", "part": "Test", "value": 0.97}]},
            completionTime="2026-11-24T10:01:00Z",
        )
    )
    get = registry.get_sample_value
    assert get("eagleray_trainingjob_progress_ratio", KEY) == 0.4
    assert get("eagleray_trainingjob_epoch", KEY) == 8
    assert get("eagleray_trainingjob_epochs", KEY) == 20
    assert get("eagleray_trainingjob_workers", KEY) == 3
    assert get("eagleray_trainingjob_remaining_seconds", KEY) == 12
    assert get("eagleray_trainingjob_attempts", KEY) == 2
    assert get("eagleray_trainingjob_loss", KEY | {"part": "training"}) == 0.5
    assert get("eagleray_trainingjob_loss", KEY | {"part": "validation"}) == 0.6
    assert get("eagleray_trainingjob_score", KEY | {"metric": "accuracy", "part": "test"}) == 0.97
    condition = {"condition": "Succeeded", "status": "Unknown", "reason": "Training"}
    assert get("eagleray_trainingjob_condition", KEY | condition) == 1
    info = {"family": "LogisticRegression", "engine": "NumPy", "digest": "sha256:ab"}
    assert get("eagleray_trainingjob_info", KEY | info) == 1
    created = get("eagleray_trainingjob_created_timestamp_seconds", KEY)
    completed = get("eagleray_trainingjob_completion_timestamp_seconds", KEY)
    assert created is not None
    assert completed == created + 60


def test_a_resource_without_status_is_shown_without_invented_values() -> None:
    registry = exposing(job(), deployment())
    get = registry.get_sample_value
    assert get("eagleray_trainingjob_info", KEY | {"family": "LogisticRegression", "engine": "", "digest": ""}) == 1
    assert get("eagleray_trainingjob_progress_ratio", KEY) is None
    assert get("eagleray_trainingjob_loss", KEY | {"part": "training"}) is None
    assert get("eagleray_modeldeployment_replicas_ready", KEY) == 0


def test_a_deployment_shows_replicas_and_what_it_serves() -> None:
    registry = exposing(
        deployment(
            conditions=[{"type": "Ready", "status": "True", "reason": "Serving"}],
            replicas={"desired": 3, "current": 2, "ready": 1},
            activeRevision="iris-bcd234",
            model={"name": "iris", "engine": "NumPy", "digest": "sha256:ab", "trainingJob": None},
        )
    )
    get = registry.get_sample_value
    assert get("eagleray_modeldeployment_replicas_desired", KEY) == 3
    assert get("eagleray_modeldeployment_replicas_current", KEY) == 2
    assert get("eagleray_modeldeployment_replicas_ready", KEY) == 1
    info = {"model": "iris", "engine": "NumPy", "digest": "sha256:ab", "revision": "iris-bcd234", "training_job": ""}
    assert get("eagleray_modeldeployment_info", KEY | info) == 1
    assert get("eagleray_modeldeployment_condition", KEY | {"condition": "Ready", "status": "True", "reason": "Serving"}) == 1


def test_gpus_are_those_of_the_unfinished_pods_of_the_resource() -> None:
    mine = {names.LABEL_MODEL_DEPLOYMENT: "iris"}
    registry = exposing(
        deployment(),
        job(),
        pod("Running", "2", **mine),
        pod("Pending", "1", **mine),
        pod("Failed", "1", **mine),
        pod("Running", None, **mine),
        pod("Running", "4", **{names.LABEL_TRAINING_JOB: "other"}),
    )
    get = registry.get_sample_value
    assert get("eagleray_gpus_requested", KEY | {"kind": "ModelDeployment"}) == 3
    assert get("eagleray_gpus_in_use", KEY | {"kind": "ModelDeployment"}) == 2
    assert get("eagleray_gpus_requested", KEY | {"kind": "TrainingJob"}) == 0


def test_only_the_leader_shows_resources() -> None:
    registry = exposing(job(), leading=False)
    assert registry.get_sample_value("eagleray_leader") == 0
    assert registry.get_sample_value("eagleray_trainingjob_attempts", KEY) is None
    assert exposing(job()).get_sample_value("eagleray_leader") == 1


def test_the_controllers_work_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="0.1.0")
    metrics.reconciled("TrainingJob", "success", 0.02)
    metrics.api_request("apply", "RayJob", 200)
    metrics.queue(7)
    metrics.waited(0.5)
    metrics.became_ready("TrainingJob", 40)
    metrics.became_ready("ModelDeployment", 21)
    metrics.report("progress", 202)
    get = registry.get_sample_value
    assert get("eagleray_build_info", {"version": "0.1.0"}) == 1
    assert get("eagleray_reconcile_total", {"kind": "TrainingJob", "result": "success"}) == 1
    assert get("eagleray_reconcile_seconds_count", {"kind": "TrainingJob"}) == 1
    assert get("eagleray_api_requests_total", {"verb": "apply", "kind": "RayJob", "code": "200"}) == 1
    assert get("eagleray_queue_depth") == 7
    assert get("eagleray_queue_wait_seconds_sum") == 0.5
    assert get("eagleray_time_to_succeeded_seconds_sum") == 40
    assert get("eagleray_time_to_ready_seconds_sum") == 21
    assert get("eagleray_reports_total", {"type": "progress", "code": "202"}) == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
def test_the_page_is_written_in_the_format_that_was_asked_for(accept: str, content_type: str) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.expose(Cache(job()))
    metrics.leader(True)
    body, found = metrics.exposition(accept)
    assert found.startswith(content_type)
    assert b"eagleray_trainingjob_info{" in body
