"""The operator on a real apiserver, under the rights that the chart grants. No pods run here."""

from typing import Any

from tests.integration.conftest import Apiserver
from tests.support.makers import condition
from tests.support.operator_process import OperatorProcess

CHILDREN = "rayjobs,rayservices,configmaps,services,networkpolicies,persistentvolumeclaims"


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "eagleray.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


LINE = manifest("TrainingJob", "line", data={"sample": "LinearRegression"}, model={"family": "LinearRegression"})
BY_URI = manifest("ModelDeployment", "shop", model={"uri": "s3://models/shop"})


def reason_of(apiserver: Apiserver, kind: str, name: str, type_: str, namespace: str) -> str:
    return str(condition(apiserver.get(kind, name, namespace)["status"], type_)["reason"])


def test_children_are_made_in_the_fewest_writes_and_then_none_follow(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str
) -> None:
    operator.start()
    operator.until_leading()
    apiserver.apply(LINE, BY_URI, namespace=namespace)
    for kind, name, type_ in (("tjob", "line", "Succeeded"), ("mdep", "shop", "Ready")):
        apiserver.until(lambda: reason_of(apiserver, kind, name, type_, namespace) == "Starting", f"{kind} {name} starts")  # noqa: B023
    made = operator.writes()
    assert made["PATCH TrainingJob"] == 1
    assert made["PATCH ModelDeployment"] == 1
    assert made["POST RayJob"] == made["POST RayService"] == made["POST Service"] == 1
    assert made["POST Secret"] == 2

    apiserver.kubectl("annotate", "tjob/line", "mdep/shop", "-n", namespace, "looked=at")
    apiserver.until(lambda: operator.writes() == made, "no more writes", seconds=5)
    operator.stop()
    operator.start()
    operator.until_leading()
    assert operator.writes() == {}, "a restart writes nothing"


def test_a_hand_edited_child_is_repaired(apiserver: Apiserver, operator: OperatorProcess, namespace: str) -> None:
    operator.start()
    operator.until_leading()
    apiserver.apply(BY_URI, namespace=namespace)
    apiserver.until(lambda: apiserver.get("service", "shop", namespace), "the Service")
    apiserver.kubectl(
        "patch", "service", "shop", "-n", namespace, "--type=merge", "-p", '{"spec":{"selector":{"ray.io/serve":"no"}}}'
    )
    apiserver.until(
        lambda: apiserver.get("service", "shop", namespace)["spec"]["selector"]["ray.io/serve"] == "true",
        "the Service is repaired",
    )


def test_a_foreign_object_of_a_childs_name_is_a_conflict(apiserver: Apiserver, operator: OperatorProcess, namespace: str) -> None:
    apiserver.kubectl("create", "service", "clusterip", "shop", "-n", namespace, "--tcp=80:80")
    operator.start()
    operator.until_leading()
    apiserver.apply(BY_URI, namespace=namespace)
    apiserver.until(lambda: reason_of(apiserver, "mdep", "shop", "Accepted", namespace) == "Conflict", "the conflict is told")
    assert apiserver.all("rayservices", namespace) == []
    assert apiserver.get("service", "shop", namespace)["spec"]["selector"] == {"app": "shop"}


def test_scale_and_wait_work_as_kubectl_users_know_them(apiserver: Apiserver, operator: OperatorProcess, namespace: str) -> None:
    operator.start()
    operator.until_leading()
    apiserver.apply(manifest("ModelDeployment", "shop", model={"uri": "s3://models/shop"}, replicas=1), namespace=namespace)
    apiserver.until(lambda: apiserver.get("mdep", "shop", namespace)["status"]["selector"], "the selector")
    apiserver.kubectl("scale", "mdep/shop", "-n", namespace, "--replicas=2")
    service = apiserver.until(
        lambda: [s for s in apiserver.all("rayservices", namespace) if "num_replicas: 2" in s["spec"]["serveConfigV2"]],
        "two replicas",
    )
    assert len(service) == 1, "a new number is no new revision"
