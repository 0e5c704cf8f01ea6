"""The operator at work on a real apiserver: the chart grants it what it uses, and nothing else."""

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import ControlPlane
from tests.support.operator_process import OperatorProcess

from .conftest import CHART, NAMESPACE, Manifest

pytestmark = pytest.mark.integration

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:eagleray"
RESOURCES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: rows, namespace: default}
data: {rows.csv: "size,price"}
---
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {name: line, namespace: default}
spec:
  data: {configMapRef: {name: rows, key: rows.csv}, target: price}
  model: {family: LinearRegression}
---
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {name: short, namespace: default}
spec:
  data: {sample: LinearRegression}
  model: {family: LinearRegression}
  runPolicy: {ttlSecondsAfterFinished: 1}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {name: line, namespace: default}
spec:
  model: {uri: "s3://models/line"}
  autoscaling: {minReplicas: 1, maxReplicas: 2}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {name: follower, namespace: default}
spec:
  model: {trainingJobRef: {name: none}}
"""
NEVER_ASKED = {
    # The apiserver's admission asks for it itself, as of everyone who sets an owner that waits for the child.
    ("eagleray.io", "trainingjobs/finalizers"): {"update"},
    ("eagleray.io", "modeldeployments/finalizers"): {"update"},
}
Rights = dict[tuple[str, str], set[str]]
PATIENCE_SECONDS = 60


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < limit, what
        time.sleep(0.5)


class Operator:
    """The operator's process, and the apiserver as its administrator uses it."""

    def __init__(self, plane: ControlPlane, process: OperatorProcess) -> None:
        self.plane = plane
        self.kubectl = plane.kubectl
        self.process = process

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = json.loads(self.kubectl("get", kind, name, "--namespace", "default", "--output", "json"))
        return found

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "--namespace", "default", "-f", "-", text=yaml.safe_dump_all(manifests))

    def delete(self, kind: str, name: str) -> None:
        place = ("--namespace", "default")
        # No controller runs here that would let a claim go.
        self.kubectl("patch", kind, name, *place, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
        self.kubectl("delete", kind, name, *place)

    def tell(self, kind: str, name: str, status: Manifest) -> None:
        """What KubeRay would write: no pods run here."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--namespace", "default", "--subresource=status", "--type=merge", "--patch", patch)

    def used(self) -> tuple[Rights, Rights]:
        """What it asked for by the apiserver's own record, and what of it was refused."""
        asked: Rights = {}
        refused: Rights = {}
        for line in self.plane.audit_log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            target = entry.get("objectRef")
            if entry["user"]["username"] != ACCOUNT or target is None or "resource" not in target:
                continue
            resource = "/".join(filter(None, [target["resource"], target.get("subresource")]))
            code = entry.get("responseStatus", {}).get("code", 0)
            verbs = asked.setdefault((target.get("apiGroup", ""), resource), set())
            verbs.add(entry["verb"])
            if entry["verb"] == "patch" and code == 201:
                verbs.add("create")
            if code in (401, 403):
                refused.setdefault((target.get("apiGroup", ""), resource), set()).add(entry["verb"])
        return asked, refused

    def granted(self) -> Rights:
        """What the chart's roles allow, as they are in the cluster."""
        found: Rights = {}
        for kind, place in (("clusterrole", ()), ("role", ("--namespace", NAMESPACE))):
            for rule in json.loads(self.kubectl("get", kind, "eagleray", *place, "--output", "json"))["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        found.setdefault((group, resource), set()).update(rule["verbs"])
        return found

    def names(self, kinds: str) -> set[str]:
        return set(self.kubectl("get", kinds, "--namespace", "default", "--output", "name").split())


@pytest.fixture
def operator(plane: ControlPlane, helm: Path, tmp_path: Path) -> Iterator[Operator]:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": str(plane.kubeconfig)}
    place = ("--namespace", NAMESPACE)
    install = [str(helm), "install", "eagleray", str(CHART), *place, "--create-namespace"]
    subprocess.run(install, env=environment, check=True, capture_output=True)

    login = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
    token = plane.kubectl("create", "token", "eagleray", *place).strip()
    login["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(login))
    (tmp_path / "kubeconfig").chmod(0o600)
    key = plane.kubectl("get", "secret", "eagleray-key", *place, "--output", "jsonpath={.data.key}")
    (tmp_path / "key").write_bytes(base64.b64decode(key))
    settings = json.loads(
        plane.kubectl("get", "configmap", "eagleray-settings", *place, "--output", r"jsonpath={.data.settings\.json}")
    )
    here = json.dumps(settings | {"keyPath": str(tmp_path / "key")})
    process = OperatorProcess(tmp_path, tmp_path / "kubeconfig", here)
    process.start()
    try:
        yield Operator(plane, process)
    finally:
        process.kill()
        subprocess.run([str(helm), "uninstall", "eagleray", *place], env=environment, check=True, capture_output=True)


def train(operator: Operator) -> None:
    """A job that fails once and is tried again, one that is refused and deletes itself, and a report that nobody vouches for."""
    wait_for("the first attempts", lambda: {"rayjob.ray.io/line-1", "rayjob.ray.io/short-1"} <= operator.names("rayjobs"))
    assert "persistentvolumeclaim/line-model" in operator.names("persistentvolumeclaims")
    operator.tell("rayjob", "line-1", {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"})
    operator.tell("rayjob", "short-1", {"jobDeploymentStatus": "ValidationFailed", "message": "refused"})
    wait_for("the second attempt", lambda: "rayjob.ray.io/line-2" in operator.names("rayjobs"))
    wait_for("the first is gone", lambda: not {"rayjob.ray.io/line-1", "configmap/line-1-config"} & everything(operator))
    wait_for("the refused job is gone", lambda: "trainingjob.eagleray.io/short" not in operator.names("trainingjobs"))
    uid = operator.get("trainingjob", "line")["metadata"]["uid"]
    identity = {"kind": "TrainingJob", "namespace": "default", "name": "line", "uid": uid, "generation": 1}
    report = json.dumps({"type": "progress", "resource": identity, "attempt": 2, "stage": "Training"})
    assert operator.process.report(report, "made-up") == 401
    assert operator.process.report(report, token_of_a_pod_that_no_watch_tells(operator)) == 202


def token_of_a_pod_that_no_watch_tells(operator: Operator) -> str:
    """Of a pod that belongs to the job's second attempt and has none of the labels by which the operator watches."""
    spec = operator.get("rayjob", "line-2")["spec"]["rayClusterSpec"]
    cluster = object_of("raycluster", "quiet", owner=operator.get("rayjob", "line-2")) | {"spec": spec}
    operator.apply(cluster)
    pod = object_of("pod", "quiet", owner=operator.get("raycluster", "quiet"))
    container = {"name": "ray", "image": "none"}
    account = object_of("serviceaccount", "default")
    operator.apply(account, pod | {"spec": {"containers": [container], "automountServiceAccountToken": False}})
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "quiet")
    return operator.kubectl("create", "token", "default", "--namespace", "default", "--audience", "eagleray", *bound).strip()


KINDS = {
    "pod": ("v1", "Pod"),
    "serviceaccount": ("v1", "ServiceAccount"),
    "raycluster": ("ray.io/v1", "RayCluster"),
}


def object_of(kind: str, name: str, owner: Manifest | None = None) -> Manifest:
    version, kind = KINDS[kind]
    metadata: Manifest = {"name": name}
    if owner is not None:
        of = owner["metadata"]
        metadata["ownerReferences"] = [
            {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": of["name"], "uid": of["uid"]}
        ]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def meddle(operator: Operator) -> None:
    """Every kind of child is edited by hand, and set back."""
    (service,) = (name for name in operator.names("rayservices"))
    wrong = '{"metadata": {"labels": {"app.kubernetes.io/managed-by": "eagleray", "eagleray.io/training-job": "wrong"}}}'
    deployed = '{"metadata": {"labels": {"eagleray.io/model-deployment": "wrong"}}}'
    edits = {
        "rayjob/line-2": wrong,
        "persistentvolumeclaim/line-model": wrong,
        "networkpolicy/line-training": wrong,
        "service/line": deployed,
        service: deployed,
    }
    for child, edit in edits.items():
        operator.kubectl("patch", child, "--namespace", "default", "--type=merge", "--patch", edit)
        kind, _, name = child.partition("/")
        wait_for(
            f"{child} is set back",
            lambda: "wrong" not in operator.get(kind, name)["metadata"]["labels"].values(),  # noqa: B023
        )
    operator.kubectl("delete", service, "--namespace", "default")
    wait_for("the RayService is back", lambda: service in operator.names("rayservices"))


def meet_strangers(operator: Operator) -> None:
    """The names of children are taken by objects of somebody else, of one kind after the other; nobody touches these."""
    deployment = {"apiVersion": "eagleray.io/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "shy"}}
    deployment["spec"] = {"model": {"uri": "s3://models/shy"}}
    job = {"apiVersion": "eagleray.io/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "shy"}}
    job["spec"] = {"data": {"sample": "LinearRegression"}, "model": {"family": "LinearRegression"}}
    for resource, kinds in (
        (deployment, ("networkpolicies", "configmaps", "services", "rayservices")),
        (job, ("persistentvolumeclaims", "rayjobs")),
    ):
        kind = str(resource["kind"]).lower()
        taken: dict[str, Manifest] = {}
        operator.apply(resource)
        wait_for("all children", lambda: all(children(operator, kind, plural) for plural in kinds))  # noqa: B023
        for plural in kinds:
            (child,) = children(operator, kind, plural)
            taken[plural] = child | {"metadata": {"name": child["metadata"]["name"]}}
        operator.delete(kind, "shy")
        sweep_up(operator, kind)
        for plural, stranger in taken.items():
            stranger.pop("status", None)
            for given in ("clusterIP", "clusterIPs", "volumeName"):
                stranger.get("spec", {}).pop(given, None)
            operator.apply(stranger)
            operator.apply(resource)
            wait_for(f"{plural} is told to be taken", lambda: accepted(operator, kind) == "Conflict")  # noqa: B023
            operator.delete(kind, "shy")
            operator.delete(plural, stranger["metadata"]["name"])
            sweep_up(operator, kind)


def sweep_up(operator: Operator, kind: str) -> None:
    """Delete the children of a resource that is gone: nobody collects garbage here."""
    for plural in ("networkpolicies", "configmaps", "services", "persistentvolumeclaims", "rayservices", "rayjobs"):
        for child in children(operator, kind, plural):
            operator.delete(plural, child["metadata"]["name"])


def children(operator: Operator, kind: str, plural: str) -> list[Manifest]:
    """Children of the resource `shy`."""
    label = f"eagleray.io/{'training-job' if kind == 'trainingjob' else 'model-deployment'}=shy"
    found: list[Manifest] = json.loads(
        operator.kubectl("get", plural, "--namespace", "default", "--selector", label, "--output", "json")
    )["items"]
    return found


def accepted(operator: Operator, kind: str) -> str:
    conditions = operator.get(kind, "shy").get("status", {}).get("conditions", [])
    return next((str(entry["reason"]) for entry in conditions if entry["type"] == "Accepted"), "")


def serve(operator: Operator) -> None:
    """A deployment whose bounds drift and change, and that is switched off."""
    wait_for("a RayService", lambda: bool(operator.names("rayservices")))
    (name,) = (name.rpartition("/")[2] for name in operator.names("rayservices"))
    service = operator.get("rayservice", name)
    owner = {"apiVersion": "ray.io/v1", "kind": "RayService", "name": name, "uid": service["metadata"]["uid"]}
    spec = service["spec"]["rayClusterConfig"]
    spec["workerGroupSpecs"][0]["maxReplicas"] = 9
    metadata = {"name": "drifted", "labels": service["metadata"]["labels"], "ownerReferences": [owner]}
    cluster = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}
    operator.kubectl("apply", "--namespace", "default", "-f", "-", text=yaml.safe_dump(cluster))

    def bound(kind: str, name: str) -> int:
        found = operator.get(kind, name)["spec"]
        return int((found.get("rayClusterConfig") or found)["workerGroupSpecs"][0]["maxReplicas"])

    wait_for("the drifted bound is set back", lambda: bound("raycluster", "drifted") == 2)
    change = '{"spec": {"autoscaling": {"maxReplicas": 3}}}'
    operator.kubectl("patch", "modeldeployment", "line", "--type=merge", "--patch", change)
    wait_for("the new bound", lambda: bound("rayservice", name) == 3)
    remove = '[{"op": "remove", "path": "/spec/autoscaling"}, {"op": "add", "path": "/spec/replicas", "value": 0}]'
    operator.kubectl("patch", "modeldeployment", "line", "--type=json", "--patch", remove)
    wait_for("no RayService", lambda: not operator.names("rayservices"))


def everything(operator: Operator) -> set[str]:
    return operator.names("rayjobs,rayservices,configmaps,services,persistentvolumeclaims,networkpolicies")


@pytest.mark.slow
def test_the_chart_grants_exactly_what_it_uses(operator: Operator) -> None:
    operator.process.until_leading()
    operator.kubectl("apply", "-f", "-", text=RESOURCES)
    train(operator)
    meddle(operator)
    serve(operator)
    meet_strangers(operator)
    wait_for("events", lambda: len(operator.names("events.events.k8s.io")) >= 2)
    asked, refused = operator.used()
    assert refused == {}, "it lacks a right"
    granted = operator.granted()
    for resource, verbs in NEVER_ASKED.items():
        assert granted[resource] == verbs
        granted.pop(resource)
    assert asked == granted, "a right is never used, or comes from elsewhere"

    page = operator.process.metrics()
    assert 'eagleray_trainingjob_condition{condition="Accepted",name="line",namespace="default"' in page
    assert 'eagleray_reports_total{code="401",type="progress"} 1.0' in page
    assert not re.findall(r'eagleray_reconcile_total{.*result="error".*', page)
    assert "orbidden" not in operator.process.log.read_text()
