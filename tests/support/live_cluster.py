"""A cluster as its users see it: kubectl for what they do, and the apiserver's own answers for what is looked at often."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from eagleray_operator.cluster.port import KINDS, Kind
from tests.cluster import ClusterError, Node
from tests.support.makers import condition
from tests.support.patience import PATIENCE_SECONDS

Manifest = dict[str, Any]
Found = TypeVar("Found")

PLURALS = {
    **KINDS,
    "ReplicaSet": Kind("apps", "v1", "ReplicaSet", "replicasets"),
    "Lease": Kind("coordination.k8s.io", "v1", "Lease", "leases"),
    "Event": Kind("", "v1", "Event", "events"),
}


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, which unlike an address is reached from any network namespace."""

    def __init__(self, path: Path) -> None:
        # kubectl proxy answers to no other name.
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class LiveCluster:
    """The cluster of a node; `proxy` is the Unix socket of a `kubectl proxy` in it."""

    def __init__(self, node: Node, proxy: Path) -> None:
        self.node = node
        self.kubectl = node.kubectl
        self._proxy = proxy

    def apply(self, *manifests: Manifest, namespace: str) -> str:
        return self.kubectl("apply", "-n", namespace, "-f", "-", text=yaml.safe_dump_all(manifests))

    def refusal(self, *manifests: Manifest, namespace: str) -> str:
        """What kubectl says of manifests that must not be taken."""
        words = ["kubectl", "apply", "-n", namespace, "-f", "-"]
        result = self.node.exec(words, text=yaml.safe_dump_all(manifests), check=False)
        assert result.returncode != 0, f"taken, but should not be: {result.stdout}"
        return result.stderr

    def request(self, path: str) -> tuple[int, bytes]:
        connection = _Connection(self._proxy)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, kind: str, name: str, namespace: str) -> Manifest:
        """The object of that name; raises LookupError if there is none."""
        status, body = self.request(f"{_path(kind, namespace)}/{name}")
        if status == 404:
            raise LookupError(f"{kind} {namespace}/{name}")
        assert status == 200, body
        found: Manifest = json.loads(body)
        return found

    def all(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        status, body = self.request(f"{_path(kind, namespace)}?labelSelector={selector.replace('=', '%3D')}")
        assert status == 200, body
        # A list leaves out what is the same of all its items.
        return [item | {"kind": kind} for item in json.loads(body)["items"]]

    def until(self, holds: Callable[[], Found], what: str, seconds: float = PATIENCE_SECONDS, namespace: str = "") -> Found:
        """Ask until the answer is true; what is not there yet is asked for again. The failure shows the namespace."""
        end = time.monotonic() + seconds
        last: Any = None
        while time.monotonic() < end:
            try:
                last = holds()
            except (LookupError, StopIteration, ClusterError) as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {str(last)[:500]})\n{self.describe(namespace)}")

    def wait(self, condition: str, resource: str, namespace: str, seconds: float = PATIENCE_SECONDS) -> None:
        """`kubectl wait`; the failure shows the namespace."""
        try:
            self.kubectl("wait", f"--for=condition={condition}", resource, "-n", namespace, f"--timeout={seconds:.0f}s")
        except ClusterError as error:
            raise AssertionError(f"{error}\n{self.describe(namespace)}") from None

    def condition(self, kind: str, name: str, type_: str, namespace: str) -> Manifest:
        found = self.get(kind, name, namespace)
        return condition(found.get("status") or {"conditions": []}, type_)

    def until_condition(
        self, kind: str, name: str, type_: str, namespace: str, *, reason: str = "", status: str = ""
    ) -> Manifest:
        """The condition, as soon as it has that reason and that status."""

        def told() -> Manifest | None:
            seen = self.condition(kind, name, type_, namespace)
            return seen if reason in ("", seen["reason"]) and status in ("", seen["status"]) else None

        found = self.until(told, f"{kind} {name} has {type_} {status} {reason}", namespace=namespace)
        assert found is not None
        return found

    def describe(self, namespace: str) -> str:
        """Conditions and pods of a namespace, for the message of a failed test."""
        if not namespace:
            return ""
        lines = []
        for kind in ("TrainingJob", "ModelDeployment"):
            for item in self.all(kind, namespace):
                told = [f"{c['type']}={c['status']}/{c['reason']}: {c.get('message', '')}" for c in _conditions(item)]
                lines.append(f"{kind} {item['metadata']['name']}: " + "; ".join(told))
        for pod in self.all("Pod", namespace):
            states = [list(c["state"].items()) for c in pod["status"].get("containerStatuses") or []]
            lines.append(f"Pod {pod['metadata']['name']}: {pod['status'].get('phase')} {str(states)[:300]}")
        return "\n".join(lines)

    def cluster_ip(self, service: str, namespace: str) -> str:
        return str(self.get("Service", service, namespace)["spec"]["clusterIP"])


def _conditions(item: Manifest) -> list[Manifest]:
    found: list[Manifest] = (item.get("status") or {}).get("conditions") or []
    return found


def _path(kind: str, namespace: str) -> str:
    known = PLURALS[kind]
    root = f"/apis/{known.group}" if known.group else "/api"
    return f"{root}/{known.version}/namespaces/{namespace}/{known.plural}"


@contextmanager
def proxied(node: Node, folder: Path) -> Iterator[LiveCluster]:
    """The cluster of a node that is up, for as long as a `kubectl proxy` runs."""
    path = folder / "apiserver.socket"
    process = node.start(["kubectl", "proxy", f"--unix-socket={path}"], log=folder / "proxy.log")
    try:
        cluster = LiveCluster(node, path)

        def answers() -> bool:
            try:
                return cluster.request("/readyz")[0] == 200
            except OSError:
                return False

        cluster.until(answers, "kubectl proxy answers", seconds=20)
        yield cluster
    finally:
        process.terminate()
        process.wait(timeout=10)
