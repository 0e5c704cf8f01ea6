"""Thirty faults over ten jobs on the node: every job ends right, or Failed with its true cause; none is lost, none runs twice.

Takes half an hour, so that it is not in the tier e2e: `make test-losses`.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tests.cluster import Node
from tests.cluster.addons import STORE_NAMESPACE
from tests.e2e.conftest import SYSTEM, NewNamespace, manifest, stored
from tests.support.live_cluster import LiveCluster

pytestmark = [pytest.mark.losses, pytest.mark.usefixtures("torch_image")]

AT_A_TIME = 2
"""Jobs that run side by side: the node has few processors, a Ray that starts takes one of them for ten seconds and has but 30.
With three jobs on two slow cores all that started timed out, started again together, and so on."""

STORE_AWAY_SECONDS = 15
CORDONED_SECONDS = 5
JOB_SECONDS = 900

CURVE = "x,height\n" + "".join(f"{x / 500},{(x / 500) ** 3 - x / 500}\n" for x in range(-1000, 1000))
BAD_ROW = 10_000
LONG = ["x,height", *(f"{x},{2 * x}" for x in range(11_000))]
LONG[BAD_ROW] = f"{BAD_ROW},nan"

EPOCHS = {"NumPy": 15_000, "Torch": 500}
"""About a minute undisturbed."""


class Faults:
    """What happens to jobs and to what they need; each method does one fault to a job."""

    def __init__(self, cluster: LiveCluster, node: Node, namespace: str) -> None:
        self._cluster, self._node, self._namespace = cluster, node, namespace
        # While the store or the node is away nobody else takes it away too.
        self._all = threading.Lock()

    def pods(self, job: str, type_: str) -> list[str]:
        """Names of a job's pods that run and are not on their way out; `type_` is head or worker."""
        return [
            pod["metadata"]["name"]
            for pod in self._cluster.all("Pod", self._namespace, f"eagleray.io/training-job={job}")
            if pod["metadata"]["labels"].get("ray.io/node-type") == type_
            and pod["status"].get("phase") == "Running"
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def _pod(self, job: str, type_: str) -> str:
        return self._cluster.until(lambda: self.pods(job, type_), f"{job} has a {type_}", 180, self._namespace)[0]

    def head_deleted(self, job: str) -> None:
        self._delete(self._pod(job, "head"))

    def worker_deleted(self, job: str) -> None:
        self._delete(self._pod(job, "worker"))

    def head_killed(self, job: str) -> None:
        self._kill(self._pod(job, "head"))

    def worker_killed(self, job: str) -> None:
        self._kill(self._pod(job, "worker"))

    def operator_deleted(self, job: str) -> None:
        """Every replica at once, without a moment to end well."""
        operators = ["-l", "app.kubernetes.io/component=operator", "-n", SYSTEM]
        self._cluster.kubectl("delete", "pods", *operators, "--grace-period=0", "--force", "--wait=false")

    def store_away(self, job: str) -> None:
        """For some seconds nobody answers for the store."""
        with self._all:
            store = ["deployment/s3", "-n", STORE_NAMESPACE]
            self._cluster.kubectl("scale", *store, "--replicas=0")
            time.sleep(STORE_AWAY_SECONDS)
            self._cluster.kubectl("scale", *store, "--replicas=1")
            self._cluster.kubectl("rollout", "status", *store, "--timeout=60s")

    def node_drained(self, job: str) -> None:
        """The job's pods are evicted, and for some seconds no others can be scheduled."""
        with self._all:
            [name] = self._cluster.kubectl("get", "nodes", "-o", "name").split()
            selector = f"--pod-selector=eagleray.io/training-job={job}"
            self._cluster.kubectl("drain", name, selector, "--force", "--delete-emptydir-data", "--timeout=60s", seconds=90)
            time.sleep(CORDONED_SECONDS)
            self._cluster.kubectl("uncordon", name)

    def _delete(self, pod: str) -> None:
        self._cluster.kubectl("delete", "pod", pod, "-n", self._namespace, "--grace-period=0", "--force", "--wait=false")

    def _kill(self, pod: str) -> None:
        """SIGKILL to every process of the pod but the first, which its own namespace protects."""
        words = ["kubectl", "exec", pod, "-n", self._namespace, "--", "sh", "-c", "kill -9 -1"]
        # The shell dies of it too.
        self._node.exec(words, check=False)


Fault = Callable[[Faults, str], None]


@dataclass(frozen=True)
class Story:
    """A job and the faults that it meets, one at each third or so of its training; with `reason` it is to fail for that."""

    name: str
    engine: str
    faults: tuple[Fault, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    words: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        training = {
            "engine": self.engine,
            "epochs": EPOCHS[self.engine],
            "optimizer": {"type": "Adam", "learningRate": 0.001},
            "checkpoint": {"everySeconds": 10},
        }
        made = {
            "data": {"configMapRef": {"name": "rows", "key": "curve.csv"}, "target": "height"},
            "model": {"family": "MultilayerPerceptron", "multilayerPerceptron": {"hiddenLayers": [32, 32]}},
            "runPolicy": {"backoffLimit": 8},
        } | self.spec
        made["training"] = training | made.get("training", {})
        if self.engine == "Torch":
            made["workers"] = {"min": 1, "max": 2}
        return manifest("TrainingJob", self.name, **made)


F = Faults
FOLDS = {"training": {"epochs": EPOCHS["NumPy"] // 4}, "evaluation": {"crossValidation": {"folds": 3}}}
TRIALS = {
    "training": {"epochs": EPOCHS["NumPy"] // 5},
    "search": {
        "algorithm": "Grid",
        "parameters": [{"field": "training.optimizer.learningRate", "numbers": [0.0003, 0.001, 0.003, 0.01]}],
    },
}
BAD = {"data": {"configMapRef": {"name": "rows", "key": "long.csv"}, "target": "height"}}

STORIES = (
    Story("workers", "Torch", (F.worker_deleted, F.operator_deleted, F.worker_killed)),
    Story("heads", "NumPy", (F.head_deleted, F.operator_deleted, F.head_deleted)),
    Story("processes", "NumPy", (F.store_away, F.head_killed, F.operator_deleted)),
    Story("both", "Torch", (F.head_deleted, F.worker_deleted, F.store_away)),
    Story("drained", "NumPy", (F.node_drained, F.head_deleted, F.store_away)),
    Story("around", "NumPy", (F.operator_deleted, F.store_away, F.node_drained)),
    Story("crowd", "Torch", (F.worker_killed, F.head_killed, F.node_drained)),
    Story("folds", "NumPy", (F.head_deleted, F.operator_deleted, F.head_killed), FOLDS),
    Story("trials", "NumPy", (F.head_deleted, F.store_away, F.operator_deleted), TRIALS),
    Story("bad", "NumPy", (F.operator_deleted, F.head_deleted, F.store_away), BAD, "DataInvalid", ("height", f"row {BAD_ROW}")),
)


class Watch:
    """Looks all the time at how many heads of each job run at once."""

    def __init__(self, cluster: LiveCluster, faults: Faults, namespace: str) -> None:
        self._cluster, self._faults, self._namespace = cluster, faults, namespace
        self._over = threading.Event()
        self.twice: list[str] = []

    def run(self) -> None:
        while not self._over.wait(1):
            for job in self._cluster.all("TrainingJob", self._namespace):
                name = job["metadata"]["name"]
                heads = self._faults.pods(name, "head")
                if len(heads) > 1:
                    self.twice.append(f"{name}: {heads}")

    def end(self) -> None:
        self._over.set()


@pytest.fixture(scope="module")
def namespace(cluster: LiveCluster, new_namespace: NewNamespace) -> str:
    name = new_namespace("losses")
    rows = {"curve.csv": CURVE, "long.csv": "\n".join(LONG)}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": rows}, namespace=name)
    return name


@pytest.fixture(scope="module")
def undisturbed(cluster: LiveCluster, node: Node, namespace: str) -> bytes:
    """The weights of a job that nothing happens to."""
    began = time.monotonic()
    cluster.apply(Story("undisturbed", "NumPy", ()).manifest(), namespace=namespace)
    cluster.wait("Succeeded", "tjob/undisturbed", namespace)
    print(f"\nundisturbed: {time.monotonic() - began:.0f} s", flush=True)
    return weights(cluster, node, namespace, "undisturbed")


@pytest.fixture(scope="module")
def ends(cluster: LiveCluster, node: Node, namespace: str, undisturbed: bytes) -> dict[str, dict[str, Any]]:
    """What became of each job: its status by name."""
    faults = Faults(cluster, node, namespace)
    watch = Watch(cluster, faults, namespace)

    def tell(story: Story) -> dict[str, Any]:
        cluster.apply(story.manifest(), namespace=namespace)
        for number, fault in enumerate(story.faults):
            if not story.reason:
                until_reached(story.name, 20 + 25 * number)
            fault(faults, story.name)
            print(f"{story.name}: {fault.__name__}", flush=True)
        return cluster.until(lambda: finished(story.name), f"{story.name} ends", JOB_SECONDS, namespace)

    def until_reached(name: str, percent: int) -> None:
        cluster.until(lambda: reached(name, percent), f"{name}: {percent} %", JOB_SECONDS, namespace)

    def reached(name: str, percent: int) -> bool:
        status = cluster.get("TrainingJob", name, namespace).get("status") or {}
        assert not status.get("completionTime"), f"{name} was over before all its faults: {status['conditions']}"
        progress = status.get("progress") or {}
        # It trains at this moment: otherwise one fault would be hidden by the one before.
        return progress.get("stage") == "Training" and progress["percent"] >= percent and bool(faults.pods(name, "head"))

    def finished(name: str) -> dict[str, Any] | None:
        status: dict[str, Any] = cluster.get("TrainingJob", name, namespace)["status"]
        return status if status.get("completionTime") else None

    with ThreadPoolExecutor(AT_A_TIME + 1) as pool:
        watching = pool.submit(watch.run)
        try:
            came = list(pool.map(tell, STORIES))
        finally:
            watch.end()
        watching.result()
    for story, status in zip(STORIES, came, strict=True):
        told = [(attempt.get("reason"), attempt.get("toEpoch")) for attempt in status["attempts"]]
        print(f"{story.name}: {told} {status['timing']}", flush=True)
    assert not watch.twice
    return dict(zip((story.name for story in STORIES), came, strict=True))


def weights(cluster: LiveCluster, node: Node, namespace: str, name: str) -> bytes:
    """The weights file of a finished job's bundle."""
    uri = cluster.get("TrainingJob", name, namespace)["status"]["model"]["uri"]
    [found] = stored(node, uri).glob("*.safetensors")
    return found.read_bytes()


def test_thirty_faults_are_thirty() -> None:
    assert (len(STORIES), sum(len(story.faults) for story in STORIES)) == (10, 30)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_it_ends_right_or_failed_with_its_cause(ends: dict[str, dict[str, Any]], story: Story) -> None:
    told = {condition["type"]: condition for condition in ends[story.name]["conditions"]}
    if story.reason:
        assert told["Failed"]["status"] == "True", told
        assert told["Failed"]["reason"] == story.reason, told["Failed"]
        assert all(word in told["Failed"]["message"] for word in story.words), told["Failed"]["message"]
    else:
        assert told["Succeeded"]["status"] == "True", told["Succeeded"]
        assert ends[story.name]["progress"]["percent"] == 100


@pytest.mark.parametrize("name", [story.name for story in STORIES if story.engine == "NumPy" and not story.spec])
def test_its_weights_are_those_of_the_undisturbed_job(
    cluster: LiveCluster, node: Node, namespace: str, ends: dict[str, dict[str, Any]], undisturbed: bytes, name: str
) -> None:
    assert ends[name]["attempts"], "it ran"
    assert weights(cluster, node, namespace, name) == undisturbed


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_its_attempts_follow_one_another(ends: dict[str, dict[str, Any]], story: Story) -> None:
    attempts = ends[story.name]["attempts"]
    for before, after in pairwise(attempts):
        assert before["endTime"] <= after["startTime"]
        resumed = after.get("fromEpoch", 0)
        assert before.get("fromEpoch", 0) <= resumed <= before.get("toEpoch", 0), "it goes on from what there was"
    numbers = [attempt["number"] for attempt in attempts]
    assert numbers == sorted(set(numbers))


def test_a_lost_worker_costs_no_attempt(ends: dict[str, dict[str, Any]]) -> None:
    assert [attempt["number"] for attempt in ends["workers"]["attempts"]] == [1]
    assert ends["workers"]["attempts"][0]["recoverySeconds"] > 0
