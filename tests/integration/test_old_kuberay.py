"""Definitions of a KubeRay that is too old: told with the field that they lack, and mended by an upgrade alone."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Apiserver
from tests.integration.test_operator import LINE, reason_of
from tests.support.makers import condition
from tests.support.operator_process import OperatorProcess

FIELD = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/preRunningDeadlineSeconds"


@pytest.fixture
def old_definitions(apiserver: Apiserver) -> Iterator[str]:
    """KubeRay's RayJob as it was before 1.6; yields the patch that brings it up to date."""
    definition = json.loads(apiserver.kubectl("get", "crd", "rayjobs.ray.io", "-o", "json"))
    place = next(number for number, version in enumerate(definition["spec"]["versions"]) if version["name"] == "v1")
    path = FIELD.replace("/0/", f"/{place}/")
    properties = definition["spec"]["versions"][place]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    upgrade = json.dumps([{"op": "add", "path": path, "value": properties["preRunningDeadlineSeconds"]}])
    apiserver.kubectl("patch", "crd", "rayjobs.ray.io", "--type=json", "-p", json.dumps([{"op": "remove", "path": path}]))
    yield upgrade
    apiserver.kubectl("patch", "crd", "rayjobs.ray.io", "--type=json", "-p", upgrade)


@pytest.mark.slow
def test_what_is_too_old_is_named_and_an_upgrade_noticed(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, old_definitions: str
) -> None:
    operator.start()
    operator.until_leading()
    apiserver.apply(LINE, namespace=namespace)
    apiserver.until(
        lambda: reason_of(apiserver, "tjob", "line", "Progressing", namespace) == "PrerequisiteMissing", "the old KubeRay is told"
    )
    told = condition(apiserver.get("tjob", "line", namespace)["status"], "Progressing")["message"]
    assert "KubeRay is too old" in told
    assert "preRunningDeadlineSeconds" in told
    assert "Install KubeRay 1.6 or newer" in told
    assert apiserver.all("rayjobs", namespace) == []

    apiserver.kubectl("patch", "crd", "rayjobs.ray.io", "--type=json", "-p", old_definitions)
    apiserver.until(lambda: apiserver.get("rayjob", "line-1", namespace), "the RayJob is made")
