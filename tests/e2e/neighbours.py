"""Pods of others that knock at the doors of ours."""

from typing import Any

from tests.cluster.addons import BUSYBOX_IMAGE
from tests.support.live_cluster import LiveCluster

GCS, DASHBOARD, CLIENT, METRICS, SERVE = 6379, 8265, 10001, 8080, 8000
CLOSED = {"GCS": GCS, "dashboard and jobs": DASHBOARD, "Ray client": CLIENT, "metrics": METRICS}


def neighbour(name: str, **labels: str) -> dict[str, Any]:
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "shell",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sleep", "3600"],
        "securityContext": security,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def knock(cluster: LiveCluster, namespace: str, pod: str, address: str, port: int) -> bool:
    """Whether a connection from that pod comes about."""
    inside = ["/bin/busybox", "nc", "-w", "3", address, str(port), "-e", "/bin/busybox", "true"]
    result = cluster.node.exec(["kubectl", "exec", "-n", namespace, pod, "--", *inside], check=False, seconds=30)
    return result.returncode == 0


def address_of(cluster: LiveCluster, namespace: str, selector: str) -> str:
    """Of the first running pod with those labels."""

    def found() -> str:
        pods = cluster.all("Pod", namespace, selector)
        return next(str(pod["status"]["podIP"]) for pod in pods if pod["status"].get("phase") == "Running")

    return cluster.until(found, f"a running pod of {selector}", namespace=namespace)
