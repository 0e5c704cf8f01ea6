"""The operator on a real apiserver, under the rights that the chart grants. No pods run here."""

from typing import Any

import pytest

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


def children(apiserver: Apiserver, namespace: str) -> dict[str, Any]:
    """The normalised dump of all owned objects and of the conditions of their owners."""
    found = {}
    for child in apiserver.all(CHILDREN, namespace):
        owners = child["metadata"].get("ownerReferences")
        if owners:
            spec = child.get("spec") or child.get("data")
            found[child["kind"], child["metadata"]["name"]] = (owners[0]["kind"], owners[0]["name"], _stable(spec))
    for owner in apiserver.all("trainingjobs,modeldeployments", namespace):
        conditions = owner.get("status", {}).get("conditions", [])
        found[owner["kind"], owner["metadata"]["name"]] = [(c["type"], c["status"], c["reason"]) for c in conditions]
    return found


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _stable(item)
            for key, item in value.items()
            if key not in ("secretName", "config.json", "clusterIP", "clusterIPs")
        }
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return value


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
    assert made["PATCH RayJob"] == made["PATCH RayService"] == made["PATCH Service"] == 1
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


SCENARIOS = {
    "create": ([LINE, BY_URI], None),
    "spec change": ([BY_URI], manifest("ModelDeployment", "shop", model={"uri": "s3://models/shop"}, resources={"cpus": 2})),
}


def settle(apiserver: Apiserver, namespace: str) -> dict[str, Any]:
    """The dump once it stands still."""
    last: list[Any] = [None, 0]

    def still() -> bool:
        seen = children(apiserver, namespace)
        last[:] = [seen, last[1] + 1 if seen == last[0] else 0]
        return last[1] >= 4

    apiserver.until(still, "the objects stand still", seconds=60)
    found: dict[str, Any] = last[0]
    return found


def play(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, scenario: str, die_at: tuple[int, str] | None
) -> dict[str, Any]:
    first, change = SCENARIOS[scenario]
    if change is not None:
        apiserver.apply(*first, namespace=namespace)
        operator.start()
        operator.until_leading()
        settle(apiserver, namespace)
        operator.stop()
    operator.start(die_at)
    apiserver.apply(*([change] if change else first), namespace=namespace)
    if die_at is not None:
        operator.process.wait(timeout=60)
        operator.start()
    operator.until_leading()
    end = settle(apiserver, namespace)
    operator.stop()
    return end


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("die_at", [(0, "after"), (2, "before"), (4, "after")], ids=lambda at: f"{at[1]} write {at[0]}")
def test_killed_in_the_middle_the_end_is_that_of_the_undisturbed_run(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, scenario: str, die_at: tuple[int, str]
) -> None:
    quiet = f"{namespace}-q"
    apiserver.kubectl("create", "namespace", quiet)
    undisturbed = play(apiserver, operator, quiet, scenario, None)
    # The other namespace's resources would be written to by the process that dies.
    apiserver.kubectl("delete", "tjob,mdep,rayjobs,rayservices", "--all", "-n", quiet, "--wait=true")
    assert play(apiserver, operator, namespace, scenario, die_at) == undisturbed


def test_deleted_while_the_operator_is_dead_in_the_middle_of_creating_nothing_comes_back(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str
) -> None:
    operator.start((2, "after"))
    apiserver.apply(BY_URI, namespace=namespace)
    operator.process.wait(timeout=60)
    half_made = [child for child in apiserver.all(CHILDREN, namespace) if child["metadata"].get("ownerReferences")]
    assert half_made, "it died in the middle"
    apiserver.kubectl("delete", "mdep", "shop", "-n", namespace)
    operator.start()
    operator.until_leading()
    settle(apiserver, namespace)
    assert operator.writes() == {}
    # No controller-manager runs here; its garbage collector goes by these references.
    assert all(child["metadata"]["ownerReferences"][0]["controller"] for child in half_made)
