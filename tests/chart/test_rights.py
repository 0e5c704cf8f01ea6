"""The operator at work on a real apiserver with the rights that the chart grants, and no others."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import ControlPlane, UnavailableError

from .conftest import CHART, NAMESPACE

pytestmark = pytest.mark.integration

RESOURCES = """
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {name: line, namespace: default}
spec:
  data: {sample: LinearRegression}
  model: {family: LinearRegression}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {name: line, namespace: default}
spec:
  model: {uri: "s3://models/line"}
  autoscaling: {minReplicas: 1, maxReplicas: 2}
"""
START = (
    "import sys; from pathlib import Path; from eagleray_operator.handlers import main; "
    "main(Path(sys.argv[1]), host='127.0.0.1', probes_port=int(sys.argv[2]), reports_port=int(sys.argv[3]))"
)
PATIENCE_SECONDS = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < limit, what
        time.sleep(0.5)


class Operator:
    def __init__(self, plane: ControlPlane, log: Path, port: int) -> None:
        self.kubectl = plane.kubectl
        self._log = log
        self._port = port

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def names(self, kinds: str) -> set[str]:
        return set(self.kubectl("get", kinds, "--namespace", "default", "--output", "name").split())


@pytest.fixture
def operator(helm: Path, tmp_path: Path) -> Iterator[Operator]:
    plane = ControlPlane(tmp_path / "plane")
    try:
        plane.up()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": str(plane.kubeconfig)}
        install = [str(helm), "install", "eagleray", str(CHART), "--namespace", NAMESPACE, "--create-namespace"]
        subprocess.run(install, env=environment, check=True, capture_output=True)

        login = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
        token = plane.kubectl("create", "token", "eagleray", "--namespace", NAMESPACE).strip()
        login["users"][0]["user"] = {"token": token}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(login))
        (tmp_path / "kubeconfig").chmod(0o600)
        within = ("--namespace", NAMESPACE, "--output")
        key = plane.kubectl("get", "secret", "eagleray-key", *within, "jsonpath={.data.key}")
        (tmp_path / "key").write_bytes(base64.b64decode(key))
        settings = json.loads(plane.kubectl("get", "configmap", "eagleray-settings", *within, r"jsonpath={.data.settings\.json}"))
        (tmp_path / "settings.json").write_text(json.dumps(settings | {"keyPath": str(tmp_path / "key")}))

        port, log = free_port(), tmp_path / "log"
        command = [sys.executable, "-c", START, str(tmp_path / "settings.json"), str(port), str(free_port())]
        with log.open("w") as output:
            process = subprocess.Popen(
                command, env=os.environ | {"KUBECONFIG": str(tmp_path / "kubeconfig")}, stdout=output, stderr=output
            )
        try:
            yield Operator(plane, log, port)
        finally:
            process.kill()
            process.wait()
    finally:
        plane.down()


def test_it_needs_no_more_than_the_chart_grants(operator: Operator) -> None:
    wait_for("it leads", lambda: "eagleray_leader 1.0" in operator.metrics())
    operator.kubectl("apply", "-f", "-", text=RESOURCES)
    kinds = "rayjobs,rayservices,configmaps,services,persistentvolumeclaims,networkpolicies"
    children = {
        "rayjob.ray.io/line-1",
        "configmap/line-1-config",
        "service/line",
        "persistentvolumeclaim/line-model",
        "networkpolicy.networking.k8s.io/line-training",
        "networkpolicy.networking.k8s.io/line-serving",
    }
    wait_for("all children", lambda: children <= operator.names(kinds))
    wait_for("a RayService", lambda: any(name.startswith("rayservice") for name in operator.names(kinds)))
    operator.kubectl("wait", "--for=condition=Accepted", "--timeout=30s", "trainingjob/line", "modeldeployment/line")
    wait_for("events", lambda: len(operator.names("events.events.k8s.io")) >= 2)

    operator.kubectl(
        "patch", "modeldeployment", "line", "--type=merge", "--patch", '{"spec": {"autoscaling": {"maxReplicas": 3}}}'
    )
    changed = ("get", "rayservices", "--output", "jsonpath={.items[*].spec.rayClusterConfig.workerGroupSpecs[*].maxReplicas}")
    wait_for("the new bound", lambda: operator.kubectl(*changed).strip() == "3")
    operator.kubectl(
        "patch", "modeldeployment", "line", "--type=json", "--patch", '[{"op": "remove", "path": "/spec/autoscaling"}]'
    )
    operator.kubectl("patch", "modeldeployment", "line", "--type=merge", "--patch", '{"spec": {"replicas": 0}}')
    wait_for("no RayService", lambda: not any(name.startswith("rayservice") for name in operator.names(kinds)))

    page = operator.metrics()
    assert 'eagleray_trainingjob_condition{condition="Accepted",name="line",namespace="default"' in page
    assert not re.findall(r'eagleray_api_requests_total{code="40[13]".*', page)
    assert not re.findall(r'eagleray_reconcile_total{.*result="error".*', page)
    assert "orbidden" not in operator.log
    assert "nauthorized" not in operator.log
