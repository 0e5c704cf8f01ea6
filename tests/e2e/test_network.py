"""Who reaches the pods of a resource: its own, KubeRay and, for a model, its callers; nobody else, wherever they are."""

from typing import Any

import pytest

from tests.cluster.addons import BUSYBOX_IMAGE
from tests.e2e.conftest import NewNamespace, manifest
from tests.support.live_cluster import LiveCluster

GCS, DASHBOARD, CLIENT, METRICS, SERVE = 6379, 8265, 10001, 8080, 8000
CLOSED = {"GCS": GCS, "dashboard and jobs": DASHBOARD, "Ray client": CLIENT, "metrics": METRICS}
JOB = manifest(
    "TrainingJob",
    "line",
    data={"sample": "LinearRegression"},
    model={"family": "LinearRegression"},
    # Long enough to be looked at while it works.
    training={"engine": "NumPy", "epochs": 1_000_000, "optimizer": {"type": "GradientDescent"}},
)
SHORT = manifest(
    "TrainingJob",
    "short",
    data={"sample": "LinearRegression"},
    model={"family": "LinearRegression"},
    training={"engine": "NumPy", "epochs": 20},
)
MODEL = manifest("ModelDeployment", "short", model={"trainingJobRef": {"name": "short"}})


def neighbour(name: str, **labels: str) -> dict[str, Any]:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "shell",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sleep", "3600"],
        "securityContext": security,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Street:
    """Two resources at work, and pods that knock at their doors."""

    def __init__(self, cluster: LiveCluster, home: str, abroad: str) -> None:
        self.cluster = cluster
        self.home = home
        self.abroad = abroad

    def knock(self, namespace: str, pod: str, address: str, port: int) -> bool:
        """Whether a connection from that pod comes about."""
        inside = ["/bin/busybox", "nc", "-w", "3", address, str(port), "-e", "/bin/busybox", "true"]
        result = self.cluster.node.exec(["kubectl", "exec", "-n", namespace, pod, "--", *inside], check=False, seconds=30)
        return result.returncode == 0

    def address(self, selector: str) -> str:
        def found() -> str:
            pods = self.cluster.all("Pod", self.home, selector)
            return next(str(pod["status"]["podIP"]) for pod in pods if pod["status"].get("phase") == "Running")

        return self.cluster.until(found, f"a running pod of {selector}", namespace=self.home)


@pytest.fixture(scope="module")
def street(cluster: LiveCluster, new_namespace: NewNamespace) -> Street:
    home, abroad = new_namespace("home"), new_namespace("abroad")
    own = {"eagleray.io/training-job": "line", "eagleray.io/model-deployment": "none"}
    cluster.apply(JOB, SHORT, MODEL, neighbour("next-door"), neighbour("of-the-house", **own), namespace=home)
    cluster.apply(neighbour("stranger"), namespace=abroad)
    cluster.wait("Ready", "pod/next-door", home, 60)
    cluster.wait("Ready", "pod/of-the-house", home, 60)
    cluster.wait("Ready", "pod/stranger", abroad, 60)
    cluster.until_condition("TrainingJob", "line", "Progressing", home, reason="Training", seconds=180)
    return Street(cluster, home, abroad)


@pytest.mark.parametrize("door", CLOSED)
@pytest.mark.parametrize("who", ["next-door", "stranger"])
def test_neither_a_pod_next_door_nor_a_stranger_gets_into_a_job(street: Street, who: str, door: str) -> None:
    head = street.address("eagleray.io/training-job=line,ray.io/node-type=head")
    namespace = street.home if who == "next-door" else street.abroad
    assert not street.knock(namespace, who, head, CLOSED[door])


@pytest.mark.parametrize("port", [GCS, DASHBOARD])
def test_the_same_doors_are_open_to_the_house_itself(street: Street, port: int) -> None:
    """So they are closed by the policy, and not for want of somebody behind them."""
    head = street.address("eagleray.io/training-job=line,ray.io/node-type=head")
    assert street.knock(street.home, "of-the-house", head, port)


def test_the_job_works_meanwhile(street: Street) -> None:
    """KubeRay, a pod itself, submits it and asks how it is; its reports reach the operator."""
    first = street.cluster.get("TrainingJob", "line", street.home)["status"]["progress"]["epoch"]

    def goes_on() -> bool:
        return bool(street.cluster.get("TrainingJob", "line", street.home)["status"]["progress"]["epoch"] > first)

    street.cluster.until(goes_on, "the job goes on", 60, street.home)
    street.cluster.wait("Succeeded", "tjob/short", street.home, 180)


def test_a_model_answers_its_namespace_and_nobody_else(street: Street) -> None:
    street.cluster.wait("Ready", "mdep/short", street.home, 240)
    service = street.cluster.cluster_ip("short", street.home)
    replica = street.address("eagleray.io/model-deployment=short,ray.io/node-type=worker")
    assert street.knock(street.home, "next-door", service, 80)
    assert street.knock(street.home, "next-door", replica, SERVE)
    assert not street.knock(street.abroad, "stranger", replica, SERVE)
    head = street.address("eagleray.io/model-deployment=short,ray.io/node-type=head")
    for port in CLOSED.values():
        assert not street.knock(street.home, "next-door", head, port)
