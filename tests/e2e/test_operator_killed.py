"""SIGKILL of the operator in the middle of a creation, a change and a deletion, on a cluster with a real garbage collector."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import Node
from tests.e2e.conftest import SYSTEM, NewNamespace, manifest
from tests.support.live_cluster import LiveCluster
from tests.support.makers import condition

pytestmark = pytest.mark.slow

OURS = ("TrainingJob", "ModelDeployment")
CHILDREN = ("RayJob", "RayService", "ConfigMap", "Secret", "Service", "NetworkPolicy", "PersistentVolumeClaim")
OPERATOR = "app.kubernetes.io/component=operator"
DESCENDANTS = ("RayCluster", "Pod")

JOB = manifest(
    "TrainingJob",
    "line",
    data={"sample": "LinearRegression"},
    model={"family": "LinearRegression"},
    training={"engine": "NumPy", "epochs": 50},
)
DEPLOYMENT = manifest("ModelDeployment", "line", model={"trainingJobRef": {"name": "line"}})
CHANGED = manifest("ModelDeployment", "line", model={"trainingJobRef": {"name": "line"}}, replicas=2)

Kill = Callable[[], None]
Dump = dict[str, Any]


@pytest.fixture(scope="module")
def kill_the_operator(cluster: LiveCluster, node: Node) -> Kill:
    """Sends SIGKILL to the operator's process in each of its pods; the kubelet starts them again.

    It waits longer each time, so that the pods are fresh ones at first if earlier ones were killed too.
    """
    pods = cluster.all("Pod", SYSTEM, OPERATOR)
    if any(state["restartCount"] for pod in pods for state in pod["status"].get("containerStatuses") or []):
        cluster.kubectl("rollout", "restart", "deployment", "-n", SYSTEM, "-l", OPERATOR)
        cluster.kubectl("rollout", "status", "deployment", "-n", SYSTEM, "-l", OPERATOR, "--timeout=120s")

    def running() -> dict[str, int]:
        """The processes of the operator's containers by container."""
        tasks = node.exec(["ctr", "--namespace", "k8s.io", "tasks", "list"]).stdout.splitlines()[1:]
        pids = {words[0]: int(words[1]) for line in tasks if (words := line.split())[2] == "RUNNING"}
        pods = cluster.all("Pod", SYSTEM, OPERATOR)
        states = [state for pod in pods for state in pod["status"].get("containerStatuses") or []]
        containers = [state["containerID"].removeprefix("containerd://") for state in states if state.get("containerID")]
        return {container: pids[container] for container in containers if container in pids}

    def kill() -> None:
        victims = running()
        assert victims, "the operator runs"
        for pid in victims.values():
            os.kill(pid, signal.SIGKILL)
        cluster.until(lambda: not victims.keys() & running().keys(), "the killed processes are gone", seconds=20)

    return kill


class Run:
    """One life of a job and a deployment that follows it; with `kill`, the operator is killed in the middle of each phase."""

    def __init__(self, cluster: LiveCluster, namespace: str, kill: Kill | None) -> None:
        self.cluster, self.namespace, self._kill = cluster, namespace, kill
        # Of one length, as the size of a bundle that names its namespace is told in the status.
        assert len(namespace) == len("e2e-steady-123456")
        self._known: dict[str, str] = {namespace: "NAMESPACE"}

    def create(self) -> Dump:
        self.cluster.apply(JOB, DEPLOYMENT, namespace=self.namespace)
        self._killed_when(lambda: self._owned("NetworkPolicy") or self._owned("ConfigMap"), "the first children are there")
        for kind, type_ in (("TrainingJob", "Succeeded"), ("ModelDeployment", "Ready")):
            self.cluster.until_condition(kind, "line", type_, self.namespace, status="True")
        return self._settled(generation=1, replicas=1)

    def change(self) -> Dump:
        self.cluster.apply(CHANGED, namespace=self.namespace)
        self._killed_when(lambda: len(self._workers()) == 2, "the second replica is being made")
        return self._settled(generation=2, replicas=2)

    def delete(self) -> None:
        self.cluster.kubectl("delete", "tjob/line", "mdep/line", "-n", self.namespace, "--wait=false")
        self._killed_when(lambda: True, "the deletion is asked for")
        kinds = (*OURS, *CHILDREN, *DESCENDANTS)
        self.cluster.until(lambda: not any(self._owned(kind) for kind in kinds), "nothing is left", 120, self.namespace)

    def _killed_when(self, holds: Callable[[], Any], what: str) -> None:
        if self._kill is not None:
            self.cluster.until(holds, what, 60, self.namespace)
            self._kill()

    def _workers(self) -> list[dict[str, Any]]:
        return self.cluster.all("Pod", self.namespace, "eagleray.io/model-deployment=line,ray.io/node-type=worker")

    def _owned(self, kind: str) -> list[dict[str, Any]]:
        """Objects of a kind that are ours or somebody's (not the Secret with the store's keys, say)."""
        found = self.cluster.all(kind, self.namespace)
        return [one for one in found if kind in OURS or one["metadata"].get("ownerReferences")]

    def _settled(self, generation: int, replicas: int) -> Dump:
        """The normalised dump, once the deployment is all that its spec of that generation asks for."""

        def rolled_out() -> bool:
            live = self.cluster.get("ModelDeployment", "line", self.namespace)
            status = live["status"]
            return (
                status["observedGeneration"] == live["metadata"]["generation"] == generation
                and condition(status, "Progressing")["reason"] == "RolledOut"
                and set(status["replicas"].values()) == {replicas}
                and condition(status, "Ready")["status"] == "True"
            )

        self.cluster.until(rolled_out, f"{replicas} replicas serve", 150, self.namespace)
        return self._dump()

    def _dump(self) -> Dump:
        owned = {kind: self._owned(kind) for kind in (*OURS, *CHILDREN)}
        for kind in OURS:
            for one in owned[kind]:
                self._name(one["metadata"]["uid"], f"UID-{kind}")
                self._name(one["metadata"]["uid"][:8], f"SHORT-UID-{kind}")
                model = one["status"].get("model") or {}
                self._name(model.get("digest", ""), "DIGEST")
                self._name(one["status"].get("activeRevision", "").removeprefix("line-"), "REVISION")
        found: Dump = {}
        for kind, objects in owned.items():
            for one in objects:
                # KubeRay's own Services in front of its clusters belong to those, not to us.
                owners = one["metadata"].get("ownerReferences") or []
                if kind in OURS or any(owner["kind"] in OURS for owner in owners):
                    found[self._plain(f"{kind} {one['metadata']['name']}")] = json.loads(self._plain(json.dumps(_told(one))))
        return found

    def _name(self, text: str, name: str) -> None:
        if text:
            self._known[text] = name

    def _plain(self, text: str) -> str:
        """The text with what differs from run to run replaced by its role; longer words first, as they hold shorter ones."""
        for word in sorted(self._known, key=len, reverse=True):
            text = text.replace(word, self._known[word])
        return text


def _told(one: dict[str, Any]) -> dict[str, Any]:
    """What an object is, without what each cluster or moment gives it anew."""
    metadata, status = one["metadata"], one.get("status") or {}
    spec = {key: value for key, value in (one.get("spec") or {}).items() if key not in ("clusterIP", "clusterIPs")}
    # The token of the cluster is derived from the owner's UID.
    data = sorted(one.get("data") or {}) if one["kind"] == "Secret" else one.get("data")
    told = {"labels": metadata.get("labels"), "owners": len(metadata.get("ownerReferences") or []), "spec": spec, "data": data}
    if one["kind"] in OURS:
        told["conditions"] = [[c["type"], c["status"], c["reason"], c["observedGeneration"]] for c in status["conditions"]]
        told["attempts"] = [[attempt["number"], attempt["reason"]] for attempt in status.get("attempts", [])]
        told["revisions"] = [[revision["name"], revision["state"]] for revision in status.get("revisions", [])]
        told["rest"] = {key: status.get(key) for key in ("replicas", "model", "url", "selector", "evaluation", "chosen")}
    return told


@pytest.fixture(scope="module")
def undisturbed(cluster: LiveCluster, new_namespace: NewNamespace, kill_the_operator: Kill) -> dict[str, Dump]:
    run = Run(cluster, new_namespace("steady"), kill=None)
    ends = {"create": run.create(), "change": run.change()}
    cluster.kubectl("delete", "tjob/line", "mdep/line", "-n", run.namespace, "--wait=false")
    return ends


@pytest.fixture(scope="module")
def disturbed(cluster: LiveCluster, new_namespace: NewNamespace, kill_the_operator: Kill) -> Run:
    return Run(cluster, new_namespace("killed"), kill_the_operator)


def test_killed_in_the_middle_of_a_creation_the_end_is_that_of_the_undisturbed_run(
    undisturbed: dict[str, Dump], disturbed: Run
) -> None:
    assert disturbed.create() == undisturbed["create"]


def test_killed_in_the_middle_of_a_change_the_end_is_that_of_the_undisturbed_run(
    undisturbed: dict[str, Dump], disturbed: Run
) -> None:
    assert disturbed.change() == undisturbed["change"]


def test_killed_in_the_middle_of_a_deletion_nothing_is_left(disturbed: Run) -> None:
    disturbed.delete()
