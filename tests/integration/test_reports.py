"""Who may report on a job: the apiserver reviews the tokens, and a pod's owners decide."""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from eagleray_runtime.contract.config import ResourceIdentity
from eagleray_runtime.contract.names import REPORT_AUDIENCE
from eagleray_runtime.contract.reports import REPORT, ProgressReport, Stage
from tests.integration.conftest import Apiserver
from tests.integration.test_operator import LINE
from tests.support.operator_process import OperatorProcess

OTHER = {**LINE, "metadata": {"name": "other"}}
Manifest = dict[str, Any]


class Pods:
    """Pods as KubeRay makes them, and tokens as the kubelet gets them for these."""

    def __init__(self, apiserver: Apiserver, namespace: str) -> None:
        self._apiserver = apiserver
        self._namespace = namespace
        apiserver.kubectl("create", "serviceaccount", "default", "-n", namespace)

    def of(self, job: str) -> str:
        """Make the pod of a job's first attempt and return its name."""
        ray_job = self._apiserver.until(lambda: self._apiserver.get("rayjob", f"{job}-1", self._namespace), "the RayJob")
        cluster = f"{job}-1-abcde"
        labels = ray_job["metadata"]["labels"]
        spec = {**ray_job["spec"]["rayClusterSpec"]}
        self._make("ray.io/v1", "RayCluster", cluster, labels, spec, [owner(ray_job)])
        made = self._apiserver.get("raycluster", cluster, self._namespace)
        return self.bare(f"{cluster}-head", labels, [owner(made)])

    def bare(self, name: str, labels: dict[str, str], owners: list[Manifest]) -> str:
        """Make any pod; none runs here."""
        spec = {"containers": [{"name": "ray", "image": "none"}], "automountServiceAccountToken": False}
        self._make("v1", "Pod", name, labels, spec, owners)
        return name

    def token(self, pod: str | None, audience: str | None = REPORT_AUDIENCE) -> str:
        words = ["create", "token", "default", "-n", self._namespace]
        words += ["--audience", audience] if audience else []
        words += ["--bound-object-kind", "Pod", "--bound-object-name", pod] if pod else []
        return self._apiserver.kubectl(*words).strip()

    def delete(self, pod: str) -> None:
        self._apiserver.kubectl("delete", "pod", pod, "-n", self._namespace, "--force", "--grace-period=0")

    def _make(self, version: str, kind: str, name: str, labels: dict[str, str], spec: Manifest, owners: list[Manifest]) -> None:
        metadata = {"name": name, "labels": labels, "ownerReferences": owners}
        self._apiserver.apply(
            {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}, namespace=self._namespace
        )


def owner(manifest: Manifest) -> Manifest:
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
        "uid": manifest["metadata"]["uid"],
        "controller": True,
    }


def decoded(part: str) -> Manifest:
    found: Manifest = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def expired(token: str, key: Path) -> str:
    """The same token as the apiserver would have signed it two hours ago."""
    header, body, _ = token.split(".")
    claims = decoded(body)
    for claim in ("exp", "iat", "nbf"):
        claims[claim] -= 7200
    content = f"{header}.{encoded(json.dumps(claims).encode())}"
    signed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)], input=content.encode(), capture_output=True, check=True
    )
    return f"{content}.{encoded(signed.stdout)}"


def tampered(token: str) -> str:
    """A token that says that it is another pod's."""
    header, body, signature = token.split(".")
    claims = decoded(body)
    claims["kubernetes.io"]["pod"]["name"] = "another"
    return f"{header}.{encoded(json.dumps(claims).encode())}.{signature}"


@pytest.fixture
def pods(apiserver: Apiserver, operator: OperatorProcess, namespace: str) -> Pods:
    operator.start()
    operator.until_leading()
    apiserver.apply(LINE, OTHER, namespace=namespace)
    return Pods(apiserver, namespace)


def test_only_a_live_pod_of_the_job_may_speak_for_it(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, pods: Pods
) -> None:
    own, others = pods.of("line"), pods.of("other")
    ray_job = apiserver.get("rayjob", "line-1", namespace)
    stranger = pods.bare("stranger", ray_job["metadata"]["labels"], [])
    job = apiserver.get("tjob", "line", namespace)
    identity = ResourceIdentity(kind="TrainingJob", namespace=namespace, name="line", uid=job["metadata"]["uid"], generation=1)
    report = ProgressReport(resource=identity, attempt=1, stage=Stage.TRAINING, epoch=1, epochs=2)
    body = REPORT.dump_json(report, by_alias=True).decode()

    good = pods.token(own)
    apiserver.until(lambda: operator.report(body, good) == 202, "the job's own pod is heard")
    key = apiserver.plane.service_account_key
    assert operator.report(body, expired(good, key)) == 401
    forged = {
        "no token": (None, 401),
        "one made up": ("made-up", 401),
        "one tampered with": (tampered(good), 401),
        "one for the apiserver": (pods.token(own, audience=None), 401),
        "one for somebody else": (pods.token(own, audience="another"), 401),
        "one of the same account without a pod": (pods.token(None), 401),
        "one of another job's pod": (pods.token(others), 403),
        "one of a pod with the job's labels": (pods.token(stranger), 403),
    }
    for what, (token, status) in forged.items():
        assert operator.report(body, token) == status, what
    page = operator.metrics()
    refused = [status for _, status in forged.values()]
    assert f'eagleray_reports_total{{code="401",type="progress"}} {refused.count(401) + 1:.1f}' in page
    assert f'eagleray_reports_total{{code="403",type="progress"}} {refused.count(403):.1f}' in page

    pods.delete(own)
    end = time.monotonic() + 30
    while (status := operator.report(body, good)) == 202 and time.monotonic() < end:
        time.sleep(0.2)
    assert status in (401, 403), "a pod that is gone is not heard"


def test_a_token_that_is_made_old_here_would_be_good_if_it_were_not(
    apiserver: Apiserver, operator: OperatorProcess, namespace: str, pods: Pods
) -> None:
    """The forger of the test above can sign: so it is the expiry that is refused."""
    token = pods.token(pods.of("line"))
    header, body, _ = token.split(".")
    signed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(apiserver.plane.service_account_key)],
        input=f"{header}.{body}".encode(),
        capture_output=True,
        check=True,
    )
    assert token == f"{header}.{body}.{encoded(signed.stdout)}"
