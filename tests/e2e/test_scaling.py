"""Both kinds scale for real: Ray's autoscaler and Ray Train make the pods come and go, and status tells it."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import OBJECT_STORE, Node
from tests.e2e.conftest import CLIENTS, Measured, NewNamespace, manifest, put_bundle, stored
from tests.support.live_cluster import LiveCluster
from tests.support.makers import condition
from tests.support.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.usefixtures("torch_image"), pytest.mark.slow]

GPU = "nvidia.com/gpu"

HILL = "x,y,z\n" + "".join(f"{x},{y},{x * x - y * y + x * y}\n" for x in range(100) for y in range(100))
"""So many rows that an epoch is mostly arithmetic, whose time several workers share."""


@pytest.fixture(scope="module")
def namespace(new_namespace: NewNamespace) -> str:
    return new_namespace("scaling")


@pytest.fixture
def gpus(node: Node, cluster: LiveCluster, namespace: str) -> Iterator[Any]:
    """Makes the node show GPUs, which Kubernetes and Ray only count; whoever holds one at the end of the test gives it back."""
    yield node.advertise_gpus
    cluster.kubectl("delete", "trainingjobs,modeldeployments", "--all", "-n", namespace, "--wait=false")
    node.advertise_gpus(0)


def gpu_pods(cluster: LiveCluster, namespace: str, label: str) -> list[dict[str, Any]]:
    """The worker pods of a resource that run and hold a GPU each."""
    return [
        pod
        for pod in cluster.all("Pod", namespace, f"eagleray.io/{label}")
        if pod["metadata"]["labels"].get("ray.io/node-type") == "worker"
        and not pod["metadata"].get("deletionTimestamp")
        and pod["status"]["phase"] == "Running"
        and pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    ]


def saved_epoch(node: Node, namespace: str) -> int:
    """Epoch of the newest checkpoint that a job of the namespace has in the store; -1 without any."""
    found = [-1]
    # Old ones are removed, and new ones written, meanwhile.
    for folder, _, _ in os.walk(stored(node, f"s3://{OBJECT_STORE.bucket}/{namespace}")):
        with suppress(FileNotFoundError, json.JSONDecodeError):
            found.append(json.loads((Path(folder) / "state.json").read_text())["epoch"])
    return max(found)


@contextmanager
def load(node: Node, address: str, log: Path) -> Iterator[dict[str, int]]:
    """Twelve requests under way at a time, for as long as the block takes and no longer than what must come may take.

    The answers by status are there after it.
    """
    answers: dict[str, int] = {}
    client = [sys.executable, str(CLIENTS / "load.py"), f"{address}:80"]
    words = [*client, "flowers", "2", f"{PATIENCE_SECONDS:.0f}", "12", "1"]
    process = node.start(words, log=log)
    try:
        yield answers
    finally:
        process.terminate()
        process.wait(timeout=30)
        answers |= json.loads(log.read_text() or "{}")


CHECKPOINT_SECONDS = 10
NOTICING_SECONDS = 30
"""How long Ray may take on a busy machine to tell that a worker is gone; what was trained meanwhile is lost too."""


def test_a_training_job_starts_on_the_gpu_there_is_grows_as_more_appear_and_shrinks_with_what_is_lost(
    cluster: LiveCluster, node: Node, namespace: str, gpus: Any, measured: Measured
) -> None:
    gpus(1)
    name = "elastic"
    job = manifest(
        "TrainingJob",
        name,
        data={"configMapRef": {"name": "hill", "key": "hill.csv"}, "target": "z"},
        model={"family": "MultilayerPerceptron", "multilayerPerceptron": {"hiddenLayers": [64, 64]}},
        # More than it comes to: one worker must not be done before two others have started, however busy the machine is.
        training={
            "engine": "Torch",
            "epochs": 100_000,
            "optimizer": {"type": "GradientDescent", "learningRate": 0.01},
            "checkpoint": {"everySeconds": CHECKPOINT_SECONDS},
        },
        workers={"min": 1, "max": 3, "gpus": 1},
        runtime={"env": [{"name": "TEAM", "value": "hills"}]},
        scheduling={"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"key": GPU, "operator": "Exists"}]},
        runPolicy={"backoffLimit": 0},
    )
    hill = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hill"}, "data": {"hill.csv": HILL}}
    began = time.monotonic()
    cluster.apply(hill, job, namespace=namespace)

    def status() -> dict[str, Any]:
        found: dict[str, Any] = cluster.get("TrainingJob", name, namespace)["status"]
        assert condition(found, "Failed")["status"] == "False", found["conditions"]
        return found

    def trains_on(workers: int) -> dict[str, Any] | None:
        found = status()
        progress = found["progress"]
        return found if progress["workers"] == workers and progress["epoch"] > 0 else None

    alone = cluster.until(lambda: trains_on(1), "it trains on one worker", namespace=namespace)
    measured["elastic training: apply -> trains on 1 worker"] = time.monotonic() - began
    assert alone is not None
    told = condition(alone, "Progressing")
    assert "1 of 1..3 workers" in told["message"]
    assert "more workers join as capacity appears" in told["message"]
    assert told["status"] == "True", "worker pods that wait are no failure"
    [pod] = gpu_pods(cluster, namespace, f"training-job={name}")
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"key": GPU, "operator": "Exists"} in pod["spec"]["tolerations"]
    assert {"name": "TEAM", "value": "hills"} in pod["spec"]["containers"][0]["env"]

    gpus(4)
    began = time.monotonic()
    together = cluster.until(lambda: trains_on(3), "it trains on three workers", namespace=namespace)
    assert together is not None
    measured["elastic training: more GPUs -> trains on 3 workers"] = time.monotonic() - began
    assert "3 of 1..3 workers" in condition(together, "Progressing")["message"]
    assert len(gpu_pods(cluster, namespace, f"training-job={name}")) == 3

    before = together["progress"]["epoch"]
    further = cluster.until(
        lambda: (found := status())["progress"]["epoch"] > before and found, "it goes on", namespace=namespace
    )
    assert [attempt["number"] for attempt in further["attempts"]] == [1], "it grew within one attempt"

    # Ray Train goes on from what it has taken note of: from one that has arrived before another began to travel.
    kept = saved_epoch(node, namespace)
    cluster.until(lambda: saved_epoch(node, namespace) > kept, "another checkpoint is saved", namespace=namespace)

    gpus(2)
    [lost, *_] = gpu_pods(cluster, namespace, f"training-job={name}")
    began = time.monotonic()
    cluster.kubectl("delete", "pod", lost["metadata"]["name"], "-n", namespace, "--grace-period=0", "--force", "--wait=false")
    fewer = cluster.until(lambda: trains_on(2), "it trains on the two workers that are left", namespace=namespace)
    assert fewer is not None
    measured["elastic training: a worker and its GPU lost -> trains on 2 workers"] = time.monotonic() - began
    assert "2 of 1..3 workers" in condition(fewer, "Progressing")["message"]
    [attempt] = fewer["attempts"]
    assert attempt["fromEpoch"] >= kept
    # Growing has cost something too.
    lost_seconds = attempt["lostSeconds"] - further["attempts"][0].get("lostSeconds", 0)
    measured["elastic training: training lost with the worker"] = lost_seconds
    assert 0 < lost_seconds <= CHECKPOINT_SECONDS + NOTICING_SECONDS, attempt
    before = fewer["progress"]["epoch"]
    cluster.until(lambda: status()["progress"]["epoch"] > before, "it goes on", namespace=namespace)


def test_a_deployment_grows_under_load_and_shrinks_after_it(
    cluster: LiveCluster, node: Node, namespace: str, gpus: Any, measured: Measured, tmp_path: Path
) -> None:
    gpus(4)
    uri, _ = put_bundle(node, namespace, tmp_path)
    bounds = {"minReplicas": 1, "maxReplicas": 3}
    delays = {"upscaleDelaySeconds": 2, "downscaleDelaySeconds": 5}
    spec = {
        "model": {"uri": uri},
        "engine": {"type": "Torch"},
        "resources": {"gpus": 1},
        "autoscaling": bounds | delays | {"targetOngoingRequests": 2},
    }
    began = time.monotonic()
    cluster.apply(manifest("ModelDeployment", "flowers", **spec), namespace=namespace)
    cluster.wait("Ready", "mdep/flowers", namespace)
    measured["deployment with torch and a GPU: apply -> Ready"] = time.monotonic() - began

    def replicas() -> dict[str, int]:
        found: dict[str, int] = cluster.get("ModelDeployment", "flowers", namespace)["status"]["replicas"]
        return found

    one, three = ({"desired": number, "current": number, "ready": number} for number in (1, 3))
    cluster.until(lambda: replicas() == one, "one replica at first", namespace=namespace)
    began = time.monotonic()
    with load(node, cluster.cluster_ip("flowers", namespace), tmp_path / "answers.json") as answers:
        cluster.until(lambda: replicas() == three, "three replicas under load", namespace=namespace)
        measured["deployment: load -> 3 replicas ready"] = time.monotonic() - began
        assert len(gpu_pods(cluster, namespace, "model-deployment=flowers")) == 3
    assert set(answers) == {"200"}, answers

    began = time.monotonic()
    cluster.until(lambda: replicas() == one, "one replica after the load", namespace=namespace)
    measured["deployment: end of load -> 1 replica"] = time.monotonic() - began
    cluster.until(lambda: len(gpu_pods(cluster, namespace, "model-deployment=flowers")) == 1, "one pod", namespace=namespace)
    status = cluster.get("ModelDeployment", "flowers", namespace)["status"]
    assert condition(status, "Ready")["status"] == "True"
    numbers = [(change["from"], change["to"]) for change in reversed(status["scaling"])]
    assert numbers[0][0] == 1
    assert max(to for _, to in numbers) == 3
    assert numbers[-1][1] == 1
    assert {change["reason"] for change in status["scaling"]} == {"load, by Ray's autoscaler"}
