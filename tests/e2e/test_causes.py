"""The causes that hold a start up most often, each in the words of the one who knows, on a real node."""

from typing import Any

import pytest

from tests.cluster import OBJECT_STORE
from tests.e2e.conftest import NewNamespace, manifest
from tests.support.live_cluster import LiveCluster

LINE: dict[str, Any] = {
    "data": {"sample": "LinearRegression"},
    "model": {"family": "LinearRegression"},
    "training": {"engine": "NumPy", "epochs": 5},
}
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": {"pods": "0"}}}
LIMIT = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
}


def job(name: str, **spec: Any) -> dict[str, Any]:
    return manifest("TrainingJob", name, **(LINE | spec))


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    return manifest("ModelDeployment", name, **({"model": {"uri": f"s3://{OBJECT_STORE.bucket}/nothing"}} | spec))


Namespaces = dict[str, str]

CAUSES = {
    "no node with room, of a job": (
        "open",
        job("vast", workers={"cpus": 900}),
        "Unschedulable",
        ["Insufficient cpu"],
    ),
    "no node with room, of a deployment": (
        "open",
        deployment("vast", resources={"gpus": 8}),
        "Unschedulable",
        ["Insufficient nvidia.com/gpu"],
    ),
    "a claim that does not exist": (
        "open",
        job("no-claim", data={"uri": "pvc://rows/rows.csv", "target": "price"}),
        "VolumePending",
        ['persistentvolumeclaim "rows" not found'],
    ),
    "a quota": ("quota", job("quota"), "QuotaExceeded", ["exceeded quota: team", "pods=1"]),
    "a quota, of a deployment": ("quota", deployment("quota"), "QuotaExceeded", ["exceeded quota: team"]),
    "a limit of the namespace": ("limit", job("limit"), "AdmissionDenied", ["maximum memory usage per Container is 64Mi"]),
}


@pytest.fixture(scope="module")
def namespaces(cluster: LiveCluster, new_namespace: NewNamespace) -> Namespaces:
    """Everything applied side by side: each waits for nothing but its own cause."""
    made = {topic: new_namespace(f"causes-{topic}") for topic in ("open", "quota", "limit")}
    cluster.apply(QUOTA, namespace=made["quota"])
    cluster.apply(LIMIT, namespace=made["limit"])
    for topic, resource, *_ in CAUSES.values():
        cluster.apply(resource, namespace=made[topic])
    return made


@pytest.mark.parametrize("what", CAUSES)
def test_it_is_told_in_the_words_of_the_one_who_knows(cluster: LiveCluster, namespaces: Namespaces, what: str) -> None:
    topic, resource, reason, words = CAUSES[what]
    kind, name = resource["kind"], resource["metadata"]["name"]
    told = cluster.until_condition(kind, name, "Progressing", namespaces[topic], reason=reason)
    assert told["status"] == "False"
    for word in words:
        assert word in told["message"], told

    def is_an_event() -> bool:
        events = [event for event in cluster.all("Event", namespaces[topic]) if event["involvedObject"]["name"] == name]
        return any(event["reason"] == reason and words[0] in event["message"] for event in events)

    # It follows the status.
    cluster.until(is_an_event, "an event tells it as well", 20, namespaces[topic])


def test_a_job_goes_on_by_itself_when_its_quota_is_raised(cluster: LiveCluster, namespaces: Namespaces) -> None:
    namespace = namespaces["quota"]
    cluster.until_condition("TrainingJob", "quota", "Progressing", namespace, reason="QuotaExceeded")
    cluster.kubectl("delete", "resourcequota", "team", "-n", namespace)
    cluster.until_condition("TrainingJob", "quota", "Progressing", namespace, status="True")
    cluster.until(lambda: cluster.all("Pod", namespace, "eagleray.io/training-job=quota"), "its pod", 60, namespace)
