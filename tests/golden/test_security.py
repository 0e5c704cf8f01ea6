"""Every golden output as an attacker reads it: pods by the rules of pod security, clusters by their token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]

OUTPUTS = sorted(Path(__file__).parent.glob("*/out.yaml"))
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
API_TOKEN = "/var/run/secrets/kubernetes.io"


def objects(path: Path, *kinds: str) -> list[Manifest]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found["kind"] in kinds]


def clusters(path: Path) -> list[Manifest]:
    specs = [found["spec"] for found in objects(path, "RayJob", "RayService")]
    return [spec.get("rayClusterSpec") or spec["rayClusterConfig"] for spec in specs]


def pods(path: Path) -> Iterator[tuple[Manifest, list[Manifest]]]:
    """Pod specs with their containers; KubeRay adds the autoscaler's to the head, and copies of Ray's own before it."""
    for cluster in clusters(path):
        head = cluster["headGroupSpec"]["template"]["spec"]
        beside = [cluster["autoscalerOptions"]] if "autoscalerOptions" in cluster else []
        yield head, [*head["containers"], *beside]
        for group in cluster.get("workerGroupSpecs", []):
            spec = group["template"]["spec"]
            yield spec, spec["containers"]


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.parent.name)
def test_pods_are_restricted(path: Path) -> None:
    """The profile `restricted` of the Pod Security Standards; tests/integration has the apiserver itself judge them."""
    seen = 0
    for spec, containers in pods(path):
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}
        assert spec["securityContext"]["runAsNonRoot"] is True
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= VOLUMES
        for container in containers:
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] > 0
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security.keys() <= {
                "runAsNonRoot",
                "runAsUser",
                "allowPrivilegeEscalation",
                "capabilities",
                "seccompProfile",
            }
            assert not any("hostPort" in port for port in container.get("ports", []))
            seen += 1
    assert seen


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.parent.name)
def test_no_token_of_the_kubernetes_api_is_within_reach_of_the_users_code(path: Path) -> None:
    for spec, _ in pods(path):
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert not any(mount["mountPath"].startswith(API_TOKEN) for mount in container["volumeMounts"])


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.parent.name)
def test_ray_asks_for_a_token_of_the_resource_alone(path: Path) -> None:
    (token,) = objects(path, "Secret")
    assert token["immutable"] is True
    assert "00000000-0000-4000-8000-000000000000" in token["metadata"]["name"], "so that it is nobody else's"
    for cluster in clusters(path):
        assert cluster["authOptions"] == {"mode": "token", "secretName": token["metadata"]["name"]}
    for spec, _ in pods(path):
        for variable in spec["containers"][0]["env"]:
            assert not variable["name"].startswith("RAY_AUTH"), "KubeRay leaves out its own where there is one"


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.parent.name)
def test_the_network_is_closed_but_for_who_must_come_in(path: Path) -> None:
    (policy,) = objects(path, "NetworkPolicy")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    for found in objects(path, "RayJob", "RayService"):
        for cluster in clusters(path):
            groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
            for group in groups:
                assert spec["podSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
        assert found["metadata"]["labels"].items() >= spec["podSelector"]["matchLabels"].items()
    own, *others = spec["ingress"]
    assert own == {"from": [{"podSelector": spec["podSelector"]}]}
    open_to_others = {port["port"] for rule in others for port in rule["ports"]}
    serving = bool(objects(path, "RayService"))
    assert open_to_others == ({8265, 8000} if serving else {8265})
    kuberay = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}}
    for rule in others:
        if {"port": 8265, "protocol": "TCP"} in rule["ports"]:
            assert rule["from"] == [kuberay]
    blocks = [peer["ipBlock"] for rule in spec["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]
    assert all("169.254.0.0/16" in block["except"] for block in blocks)
