"""Who reaches the pods of a job: its own and KubeRay; nobody else, wherever they are."""

import pytest

from tests.e2e.conftest import NewNamespace, manifest
from tests.e2e.neighbours import CLOSED, DASHBOARD, GCS, address_of, knock, neighbour
from tests.support.live_cluster import LiveCluster

HEAD = "eagleray.io/training-job=line,ray.io/node-type=head"
JOB = manifest(
    "TrainingJob",
    "line",
    data={"sample": "LinearRegression"},
    model={"family": "LinearRegression"},
    # Long enough to be looked at while it works.
    training={"engine": "NumPy", "epochs": 1_000_000, "optimizer": {"type": "GradientDescent"}},
)


class Street:
    """Two resources at work, and pods that knock at their doors."""

    def __init__(self, cluster: LiveCluster, home: str, abroad: str) -> None:
        self.cluster = cluster
        self.home = home
        self.abroad = abroad


@pytest.fixture(scope="module")
def street(cluster: LiveCluster, new_namespace: NewNamespace) -> Street:
    home, abroad = new_namespace("home"), new_namespace("abroad")
    own = {"eagleray.io/training-job": "line", "eagleray.io/model-deployment": "none"}
    cluster.apply(JOB, neighbour("next-door"), neighbour("of-the-house", **own), namespace=home)
    cluster.apply(neighbour("stranger"), namespace=abroad)
    cluster.wait("Ready", "pod/next-door", home, 60)
    cluster.wait("Ready", "pod/of-the-house", home, 60)
    cluster.wait("Ready", "pod/stranger", abroad, 60)
    cluster.until_condition("TrainingJob", "line", "Progressing", home, reason="Training")
    return Street(cluster, home, abroad)


@pytest.mark.parametrize("door", CLOSED)
@pytest.mark.parametrize("who", ["next-door", "stranger"])
def test_neither_a_pod_next_door_nor_a_stranger_gets_into_a_job(street: Street, who: str, door: str) -> None:
    head = address_of(street.cluster, street.home, HEAD)
    namespace = street.home if who == "next-door" else street.abroad
    assert not knock(street.cluster, namespace, who, head, CLOSED[door])


@pytest.mark.parametrize("port", [GCS, DASHBOARD])
def test_the_same_doors_are_open_to_the_house_itself(street: Street, port: int) -> None:
    """So they are closed by the policy, and not for want of somebody behind them."""
    head = address_of(street.cluster, street.home, HEAD)
    assert knock(street.cluster, street.home, "of-the-house", head, port)


def test_the_job_works_meanwhile(street: Street) -> None:
    """KubeRay, a pod itself, submits it and asks how it is; its reports reach the operator."""
    first = street.cluster.get("TrainingJob", "line", street.home)["status"]["progress"]["epoch"]

    def goes_on() -> bool:
        return bool(street.cluster.get("TrainingJob", "line", street.home)["status"]["progress"]["epoch"] > first)

    street.cluster.until(goes_on, "the job goes on", 60, street.home)
