"""A cluster without KubeRay: the operator says what is missing, makes nothing, and goes on once it is there."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.integration.conftest import Apiserver
from tests.integration.test_operator import BY_URI, CHILDREN, LINE, reason_of
from tests.support.makers import condition
from tests.support.operator_process import OperatorProcess

DEFINITIONS = [f"crd/{plural}.ray.io" for plural in ("rayjobs", "rayservices", "rayclusters")]


@pytest.fixture
def kuberay(apiserver: Apiserver) -> Iterator[str]:
    """KubeRay's definitions, which are there again at the end."""
    found = json.loads(apiserver.kubectl("get", *DEFINITIONS, "-o", "json"))["items"]
    for definition in found:
        definition.pop("status")
        definition["metadata"] = {key: definition["metadata"][key] for key in ("name", "annotations")}
    definitions = yaml.safe_dump_all(found)
    yield definitions
    apiserver.kubectl("apply", "--server-side", "-f", "-", text=definitions)
    apiserver.kubectl("wait", "--for=condition=Established", "--timeout=30s", *DEFINITIONS)


def test_the_missing_kuberay_is_named_and_its_arrival_noticed(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, kuberay: str
) -> None:
    apiserver.kubectl("delete", *DEFINITIONS, "--wait=true")
    operator.start()
    operator.until_leading()
    apiserver.apply(LINE, BY_URI, namespace=namespace)
    for kind, name in (("tjob", "line"), ("mdep", "shop")):

        def missing() -> bool:
            return reason_of(apiserver, kind, name, "Accepted", namespace) == "PrerequisiteMissing"  # noqa: B023

        apiserver.until(missing, f"{kind} {name} names what is missing")
        told = condition(apiserver.get(kind, name, namespace)["status"], "Accepted")
        assert "Install KubeRay" in told["message"]
    made = apiserver.all("configmaps,services,networkpolicies,persistentvolumeclaims", namespace)
    assert not [child for child in made if owned(child)]

    apiserver.kubectl("apply", "--server-side", "-f", "-", text=kuberay)
    for kind, name, type_ in (("tjob", "line", "Succeeded"), ("mdep", "shop", "Ready")):

        def starts() -> bool:
            return reason_of(apiserver, kind, name, type_, namespace) == "Starting"  # noqa: B023

        apiserver.until(starts, f"{kind} {name} goes on by itself")
    owners = {child["metadata"]["ownerReferences"][0]["name"] for child in apiserver.all(CHILDREN, namespace) if owned(child)}
    assert owners == {"line", "shop"}


def owned(child: dict[str, Any]) -> bool:
    return bool(child["metadata"].get("ownerReferences"))


@pytest.mark.slow
def test_kuberay_is_removed_and_returns_while_the_operator_works_on(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, kuberay: str
) -> None:
    operator.start()
    operator.until_leading()
    apiserver.apply(BY_URI, namespace=namespace)
    apiserver.until(lambda: apiserver.all("rayservices", namespace), "a RayService")

    apiserver.kubectl("delete", *DEFINITIONS, "--wait=true")

    def missing() -> bool:
        return reason_of(apiserver, "mdep", "shop", "Accepted", namespace) == "PrerequisiteMissing"

    apiserver.until(missing, "what is missing is named")
    assert operator.process.poll() is None

    apiserver.kubectl("apply", "--server-side", "-f", "-", text=kuberay)
    [service] = apiserver.until(lambda: apiserver.all("rayservices", namespace), "a RayService again")
    # That of the new RayService is seen: its watch is back as well.
    apiserver.kubectl("delete", "rayservice", service["metadata"]["name"], "-n", namespace)
    apiserver.until(lambda: apiserver.all("rayservices", namespace), "it comes back")
    assert operator.process.poll() is None
