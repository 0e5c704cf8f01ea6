"""A real kube-apiserver and etcd with KubeRay's and our resources, and the operator under the rights that the chart grants."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eagleray_operator.api import crd
from eagleray_operator.settings import Settings
from tests.chart.conftest import CHART, NAMESPACE, helm  # noqa: F401
from tests.cluster import ClusterError, ControlPlane, UnavailableError
from tests.support.operator_process import OperatorProcess

RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("integration")


class Apiserver:
    """The apiserver as its administrator uses it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.kubectl = plane.kubectl

    def forget_the_leader(self) -> None:
        """Free the lease of a process that was killed: how long its end takes is not what these tests are about."""
        self.kubectl("delete", "lease", "eagleray", "-n", NAMESPACE, "--ignore-not-found")

    def apply(self, *manifests: dict[str, Any], namespace: str = "default") -> str:
        return self.kubectl("apply", "-n", namespace, "-f", "-", text=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    def all(self, kinds: str, namespace: str = "default") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "-n", namespace, "-o", "json"))["items"]
        return found

    def set_status(self, kind: str, name: str, status: dict[str, Any], namespace: str = "default") -> None:
        """What KubeRay would write: no pods run here."""
        self.kubectl(
            "patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if answer := holds():
                    return answer
            except (ClusterError, KeyError, IndexError, StopIteration):
                # Not there yet: asked again until the time is up.
                continue
            finally:
                # Each look is a kubectl, which takes a tenth of a second of a processor and more.
                time.sleep(0.5)
        raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    plane = ControlPlane(tmp_path_factory.mktemp("integration") / "plane")
    try:
        plane.up()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        server = Apiserver(plane)
        definitions = yaml.safe_dump_all(crd.definitions().values())
        plane.kubectl("apply", "--server-side", "-f", "-", text=definitions)
        plane.kubectl(
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd/trainingjobs.eagleray.io",
            "crd/modeldeployments.eagleray.io",
        )
        yield server
    finally:
        plane.down()


@pytest.fixture(scope="session")
def operator_kubeconfig(apiserver: Apiserver, helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Credentials of the chart's ServiceAccount, with the rights that the chart grants and no others."""
    rendered = subprocess.run(
        [str(helm), "template", "eagleray", str(CHART), "--namespace", NAMESPACE], capture_output=True, text=True, check=True
    )
    rights = [found for found in yaml.safe_load_all(rendered.stdout) if found and found["kind"] in RIGHTS]
    apiserver.kubectl("create", "namespace", NAMESPACE)
    apiserver.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(rights))
    token = apiserver.kubectl("create", "token", "eagleray", "-n", NAMESPACE, "--duration=2h").strip()
    admin = yaml.safe_load(apiserver.plane.kubeconfig.read_text())
    admin["users"][0]["user"] = {"token": token}
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    path.write_text(yaml.safe_dump(admin))
    return path


@pytest.fixture
def operator(apiserver: Apiserver, operator_kubeconfig: Path, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator, not started yet."""
    key = tmp_path / "key"
    key.write_text("a key of the integration tests, long enough")
    settings = Settings(namespace=NAMESPACE, key_path=str(key), reports_url="http://reports/v1/reports")
    process = OperatorProcess(
        tmp_path, operator_kubeconfig, settings.model_dump_json(by_alias=True), before_start=apiserver.forget_the_leader
    )
    yield process
    if process._process is not None:
        process.kill()


@pytest.fixture
def namespace(apiserver: Apiserver) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    apiserver.kubectl("create", "namespace", name)
    yield name
    for kind in ("modeldeployments", "trainingjobs", "rayservices", "rayjobs"):
        apiserver.kubectl("delete", kind, "--all", "-n", name, "--wait=false")
