"""Bad input of every sort: a clear message, and no half-made children."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster import OBJECT_STORE, Node
from tests.e2e.conftest import NewNamespace, manifest, put_bundle
from tests.support.bundles import flip_a_bit
from tests.support.live_cluster import LiveCluster

HOUSES = "size,price\n" + "".join(f"{size},{2 * size}\n" for size in range(40))
HOLE = 17
HOUSES_WITH_A_HOLE = HOUSES.replace(f"\n{HOLE},{2 * HOLE}\n", f"\n{HOLE},nan\n")

CHILDREN = ("RayJob", "RayService", "RayCluster", "Pod", "NetworkPolicy", "PersistentVolumeClaim", "Service")


def job(name: str, **spec: Any) -> dict[str, Any]:
    """A job that would end well, but for what is given."""
    good = {
        "data": {"configMapRef": {"name": "houses", "key": "houses.csv"}, "target": "price"},
        "model": {"family": "LinearRegression"},
        "training": {"engine": "NumPy", "epochs": 5},
    }
    return manifest("TrainingJob", name, **(good | spec))


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    return manifest("ModelDeployment", name, **({"model": {"uri": f"s3://{OBJECT_STORE.bucket}/nothing"}} | spec))


@pytest.fixture(scope="module")
def namespace(cluster: LiveCluster, new_namespace: NewNamespace) -> str:
    """A namespace with the data of the jobs, in which what waits for its image has been applied."""
    name = new_namespace("bad")
    houses = {"houses.csv": HOUSES, "hole.csv": HOUSES_WITH_A_HOLE}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "houses"}, "data": houses},
        job("no-image", runtime={"image": "localhost/none:1"}),
        deployment("no-image", runtime={"image": "localhost/none:1"}),
        namespace=name,
    )
    return name


REFUSED = {
    "an unknown field": (job("bad", epochs=3), "epochs"),
    "a wrong type": (job("bad", training={"epochs": "many"}), "spec.training.epochs"),
    "a value out of its range": (job("bad", workers={"min": 0}), "spec.workers.min"),
    "both replicas and autoscaling": (deployment("bad", replicas=2, autoscaling={"maxReplicas": 3}), "replicas and autoscaling"),
    "a job's name that is too long for its children": (job("a" * 41), "40"),
    "a deployment's name that is too long for its children": (deployment("a" * 41), "40"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_kubectl_refuses(cluster: LiveCluster, namespace: str, what: str) -> None:
    bad, word = REFUSED[what]
    words = cluster.refusal(bad, namespace=namespace)
    assert word in words
    name = bad["metadata"]["name"]
    for kind in (bad["kind"], *CHILDREN):
        assert not [found for found in cluster.all(kind, namespace) if found["metadata"]["name"].startswith(name)]


FAILING = {
    "no-column": (
        {"configMapRef": {"name": "houses", "key": "houses.csv"}, "target": "rent"},
        "DataInvalid",
        ["rent", "size", "price"],
    ),
    "hole": ({"configMapRef": {"name": "houses", "key": "hole.csv"}, "target": "price"}, "DataInvalid", ["price"]),
    "no-file": ({"uri": f"s3://{OBJECT_STORE.bucket}/nowhere/none.csv", "target": "price"}, "StoreRefused", ["none.csv"]),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "no-column" else pytest.mark.slow) for name in FAILING])
def test_a_job_fails_once_in_clear_words_and_leaves_no_pods(cluster: LiveCluster, namespace: str, name: str) -> None:
    # One at a time: Ray 2.60 gives a head 30 s to start (raylet_start_wait_time_s in _private/node.py), and five that start at
    # once on two slow cores never come to an end. Where a head takes longer, the job goes on with another attempt.
    data, reason, words = FAILING[name]
    cluster.apply(job(name, data=data), namespace=namespace)
    told = cluster.until_condition("TrainingJob", name, "Failed", namespace, status="True")
    assert told["reason"] == reason, told
    assert all(word in told["message"] for word in words), told["message"]
    attempts = [attempt["reason"] for attempt in cluster.get("TrainingJob", name, namespace)["status"]["attempts"]]
    assert attempts.count(reason) == 1, "trying again would not help"
    assert set(attempts[:-1]) <= {"ContainerFailed", "HeadLost"}, attempts
    selector = f"eagleray.io/training-job={name}"
    cluster.until(lambda: not cluster.all("Pod", namespace, selector), "its pods are gone", namespace=namespace)


@pytest.mark.slow
def test_a_bundle_with_a_flipped_bit_is_not_served(cluster: LiveCluster, node: Node, namespace: str, tmp_path: Path) -> None:
    uri, folder = put_bundle(node, namespace, tmp_path)
    flip_a_bit(folder)
    cluster.apply(deployment("flipped", model={"uri": uri}), namespace=namespace)
    told = cluster.until_condition("ModelDeployment", "flipped", "Ready", namespace, reason="DigestMismatch")
    assert told["status"] == "False"
    assert ".safetensors is not the file that was written" in told["message"]


@pytest.mark.parametrize("kind", ["TrainingJob", "ModelDeployment"])
def test_an_image_that_does_not_exist_is_told_in_the_kubelets_words(cluster: LiveCluster, namespace: str, kind: str) -> None:
    told = cluster.until_condition(kind, "no-image", "Progressing", namespace, reason="ImagePullFailed")
    selector = f"eagleray.io/{'training-job' if kind == 'TrainingJob' else 'model-deployment'}=no-image"
    events = [
        event["message"]
        for event in cluster.all("Event", namespace)
        if event["involvedObject"]["name"] in {pod["metadata"]["name"] for pod in cluster.all("Pod", namespace, selector)}
    ]
    assert "localhost/none:1" in told["message"]
    assert any(word in told["message"] for word in ("failed to resolve", "Back-off pulling", "pull")), (told, events)
