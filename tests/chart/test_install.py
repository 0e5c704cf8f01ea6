"""The chart on a real apiserver, as a user installs, upgrades and removes it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import ControlPlane

from .conftest import CHART, NAMESPACE

pytestmark = pytest.mark.integration

OPERATOR = f"system:serviceaccount:{NAMESPACE}:eagleray"


class Cluster:
    def __init__(self, plane: ControlPlane, helm: Path) -> None:
        self.kubectl = plane.kubectl
        self._helm = helm
        self._environment = {"HOME": str(plane.state), "PATH": os.environ["PATH"], "KUBECONFIG": str(plane.kubeconfig)}

    def helm(self, *arguments: str) -> str:
        command = [str(self._helm), *arguments, "--namespace", NAMESPACE]
        result = subprocess.run(command, capture_output=True, text=True, env=self._environment, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def key(self) -> str:
        return self.kubectl("get", "secret", "eagleray-key", "-n", NAMESPACE, "-o", "jsonpath={.data.key}")

    def may(self, verb: str, resource: str, namespace: str = "default", subresource: str = "") -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": OPERATOR,
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
                "resourceAttributes": {
                    "verb": verb,
                    "group": resource.partition(".")[2],
                    "resource": resource.partition(".")[0],
                    "subresource": subresource,
                    "namespace": namespace,
                },
            },
        }
        answer = self.kubectl("create", "-f", "-", "-o", "jsonpath={.status.allowed}", text=yaml.safe_dump(review))
        return answer.strip() == "true"


@pytest.fixture
def cluster(plane: ControlPlane, helm: Path) -> Iterator[Cluster]:
    cluster = Cluster(plane, helm)
    yield cluster
    cluster.helm("uninstall", "eagleray")


@pytest.mark.slow
def test_install_upgrade_and_uninstall(cluster: Cluster) -> None:
    notes = cluster.helm("install", "eagleray", str(CHART), "--create-namespace")
    assert "KubeRay is MISSING" not in notes
    assert "KubeRay 1.6 or later" in notes
    assert "modelStore.uri" in notes
    key = cluster.key()
    assert key

    cluster.helm("upgrade", "eagleray", str(CHART), "--set", "settings.workers=30", "--set", "modelStore.uri=s3://models")
    assert cluster.key() == key
    settings = cluster.kubectl("get", "configmap", "eagleray-settings", "-n", NAMESPACE, "-o", "jsonpath={.data}")
    assert "s3://models" in settings

    for verb in ("get", "list", "watch", "update", "patch", "delete"):
        assert not cluster.may(verb, "secrets"), verb
        assert not cluster.may(verb, "secrets", NAMESPACE), verb
    assert cluster.may("create", "secrets")
    assert cluster.may("patch", "trainingjobs.eagleray.io", subresource="status")
    assert not cluster.may("patch", "trainingjobs.eagleray.io")
    assert not cluster.may("create", "pods")
    assert not cluster.may("delete", "modeldeployments.eagleray.io")
    assert cluster.may("create", "rayservices.ray.io")
    assert not cluster.may("delete", "leases.coordination.k8s.io", NAMESPACE)

    cluster.helm("uninstall", "eagleray")
    left = cluster.kubectl("get", "customresourcedefinitions", "-o", "name")
    assert "trainingjobs.eagleray.io" in left
    assert cluster.key() == key

    cluster.helm("install", "eagleray", str(CHART))
    assert cluster.key() == key, "an installation after an uninstallation takes over what was kept"
