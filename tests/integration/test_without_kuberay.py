"""A cluster without KubeRay: the operator says what is missing, makes nothing, and goes on once it is there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eagleray_operator.api import crd
from eagleray_operator.settings import Settings
from tests.cluster import ControlPlane, UnavailableError
from tests.integration.conftest import NAMESPACE, Apiserver
from tests.integration.test_operator import BY_URI, CHILDREN, LINE, reason_of
from tests.support.makers import condition
from tests.support.operator_process import OperatorProcess

KUBERAY = ("rayjobs", "rayservices", "rayclusters")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[tuple[Apiserver, str]]:
    """An apiserver of this test's own that knows our resources and none of KubeRay's, and the definitions of those."""
    plane = ControlPlane(tmp_path / "plane")
    try:
        plane.up()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        names = [f"crd/{plural}.ray.io" for plural in KUBERAY]
        found = json.loads(plane.kubectl("get", *names, "-o", "json"))["items"]
        for definition in found:
            definition.pop("status")
            definition["metadata"] = {
                "name": definition["metadata"]["name"],
                "annotations": definition["metadata"]["annotations"],
            }
        plane.kubectl("delete", "crd", "--all", "--wait=true")
        plane.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(crd.definitions().values()))
        ours = [f"crd/{plural}.eagleray.io" for plural in ("trainingjobs", "modeldeployments")]
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *ours)
        plane.kubectl("create", "namespace", NAMESPACE)
        yield Apiserver(plane), yaml.safe_dump_all(found)
    finally:
        plane.down()


def test_the_missing_kuberay_is_named_and_its_arrival_noticed(bare: tuple[Apiserver, str], tmp_path: Path) -> None:
    apiserver, kuberay = bare
    key = tmp_path / "key"
    key.write_text("a key of the integration tests, long enough")
    settings = Settings(namespace=NAMESPACE, key_path=str(key), reports_url="http://reports/v1/reports")
    operator = OperatorProcess(tmp_path, apiserver.plane.kubeconfig, settings.model_dump_json(by_alias=True))
    operator.start()
    try:
        operator.until_leading()
        apiserver.apply(LINE, BY_URI)
        for kind, name in (("tjob", "line"), ("mdep", "shop")):

            def missing() -> bool:
                return reason_of(apiserver, kind, name, "Accepted", "default") == "PrerequisiteMissing"  # noqa: B023

            apiserver.until(missing, f"{kind} {name} names what is missing")
            told = condition(apiserver.get(kind, name)["status"], "Accepted")
            assert "Install KubeRay" in told["message"]
        made = apiserver.all("configmaps,services,networkpolicies,persistentvolumeclaims")
        assert not [child for child in made if child["metadata"].get("ownerReferences")]

        apiserver.kubectl("apply", "--server-side", "-f", "-", text=kuberay)
        for kind, name, type_ in (("tjob", "line", "Succeeded"), ("mdep", "shop", "Ready")):

            def starts() -> bool:
                return reason_of(apiserver, kind, name, type_, "default") == "Starting"  # noqa: B023

            apiserver.until(starts, f"{kind} {name} goes on by itself", seconds=60)
        owners = {child["metadata"]["ownerReferences"][0]["name"] for child in apiserver.all(CHILDREN) if owned(child)}
        assert owners == {"line", "shop"}
    finally:
        operator.kill()


def owned(child: dict[str, Any]) -> bool:
    return bool(child["metadata"].get("ownerReferences"))


def test_kuberay_is_removed_and_returns_while_the_operator_works_on(bare: tuple[Apiserver, str], tmp_path: Path) -> None:
    apiserver, kuberay = bare
    apiserver.kubectl("apply", "--server-side", "-f", "-", text=kuberay)
    key = tmp_path / "key"
    key.write_text("a key of the integration tests, long enough")
    settings = Settings(namespace=NAMESPACE, key_path=str(key), reports_url="http://reports/v1/reports", sweep_seconds=10)
    operator = OperatorProcess(tmp_path, apiserver.plane.kubeconfig, settings.model_dump_json(by_alias=True))
    operator.start()
    try:
        operator.until_leading()
        apiserver.apply(BY_URI)
        apiserver.until(lambda: apiserver.all("rayservices"), "a RayService")

        apiserver.kubectl("delete", *(f"crd/{plural}.ray.io" for plural in KUBERAY), "--wait=true")

        def missing() -> bool:
            return reason_of(apiserver, "mdep", "shop", "Accepted", "default") == "PrerequisiteMissing"

        apiserver.until(missing, "what is missing is named", seconds=60)
        assert operator.process.poll() is None

        apiserver.kubectl("apply", "--server-side", "-f", "-", text=kuberay)
        [service] = apiserver.until(lambda: apiserver.all("rayservices"), "a RayService again", seconds=60)
        # That of the new RayService is seen: its watch is back as well.
        apiserver.kubectl("delete", "rayservice", service["metadata"]["name"])
        apiserver.until(lambda: apiserver.all("rayservices"), "it comes back", seconds=30)
        assert operator.process.poll() is None
    finally:
        operator.kill()
