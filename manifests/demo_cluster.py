"""`make demo-cluster`: what `make demo` shows, by `helm install` and `kubectl apply` on a real Kubernetes.

Where KUBECONFIG names a cluster that one is used: it must have KubeRay 1.6 or newer, `helm` and `kubectl` must be on PATH, and
EAGLERAY_OPERATOR_IMAGE and EAGLERAY_RUNTIME_IMAGE name images that its nodes can pull. Without, a one-node Kubernetes is brought
up on this machine (root on Linux), its S3 server is the model store, and this program runs again within its network.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from eagleray_operator.local.run import load as load_manifests
from eagleray_runtime.contract.config import TrainingConfig
from manifests.expected import DisagreementError, Iris, check_iris, check_line, features, numbers
from tests.cluster import OBJECT_STORE, Node, UnavailableError

REPOSITORY = Path(__file__).parents[1]
SAMPLES = REPOSITORY / "manifests" / "samples"
OPERATOR_NAMESPACE = "eagleray-system"
NAMESPACE = "eagleray-demo"
INSIDE = "EAGLERAY_DEMO_INSIDE"
STORE_SECRET = "model-store"  # noqa: S105 - a name, not a secret
WAIT = "--timeout=300s"


def main() -> int:
    """Run the demo; the exit code."""
    if os.environ.get("KUBECONFIG") or os.environ.get(INSIDE):
        return demo(own_node=bool(os.environ.get(INSIDE)))
    node = Node(say=say)
    node.up()
    return node.start(["env", f"{INSIDE}=1", sys.executable, "-m", "manifests.demo_cluster"]).wait()


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201


def run(*command: str, text: str | None = None) -> str:
    """Run a program and return what it prints; what it says against it is shown and ends the demo."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{result.stderr.strip()}")
    return result.stdout


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run kubectl in the demo's namespace."""
    return run("kubectl", "-n", NAMESPACE, *arguments, text=text)


def get(kind: str, name: str) -> dict[str, Any]:
    """A live object."""
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-o", "json"))
    return found


def values(own_node: bool) -> dict[str, Any]:
    """Values of the chart."""
    if own_node:
        return {
            "image": {"repository": "localhost/eagleray-operator", "tag": "dev"},
            "runtime": {"images": {"numpy": "localhost/eagleray-runtime:dev", "torch": "localhost/eagleray-runtime:dev-torch"}},
            "modelStore": {"uri": f"s3://{OBJECT_STORE.bucket}", "secretName": STORE_SECRET},
        }
    chosen: dict[str, Any] = {}
    if image := os.environ.get("EAGLERAY_OPERATOR_IMAGE"):
        repository, _, tag = image.rpartition(":")
        chosen["image"] = {"repository": repository, "tag": tag}
    if image := os.environ.get("EAGLERAY_RUNTIME_IMAGE"):
        chosen["runtime"] = {"images": {"numpy": image}}
    return chosen


def install(own_node: bool) -> None:
    """Install or upgrade the chart and wait until it works."""
    chart = str(REPOSITORY / "helm" / "eagleray")
    where = ("--namespace", OPERATOR_NAMESPACE, "--create-namespace")
    run("helm", "upgrade", "--install", "eagleray", chart, *where, "--values", "-", text=yaml.safe_dump(values(own_node)))
    run("kubectl", "-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/eagleray", WAIT)


def prepare(own_node: bool) -> None:
    """A namespace that enforces restricted pod security, empty of an earlier demo, with the keys of the store."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    run("kubectl", "apply", "-f", "-", text=yaml.safe_dump(namespace))
    kubectl("delete", "trainingjobs,modeldeployments", "--all", "--wait=true")
    if own_node:
        keys = {
            "AWS_ACCESS_KEY_ID": OBJECT_STORE.access_key,
            "AWS_SECRET_ACCESS_KEY": OBJECT_STORE.secret_key,
            "AWS_ENDPOINT_URL": OBJECT_STORE.endpoint,
            "AWS_REGION": OBJECT_STORE.region,
        }
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORE_SECRET}, "stringData": keys}
        kubectl("apply", "-f", "-", text=yaml.safe_dump(secret))


@contextmanager
def forwarded(service: str) -> Iterator[str]:
    """The Service's address from here, through the apiserver, so that it works with any cluster."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{service}", f"{port}:80"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"kubectl port-forward to {service} does not work") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def infer(name: str, rows: list[list[float]]) -> dict[str, Any]:
    """Ask a deployment through its Service; the outputs by name."""
    with forwarded(name) as url:
        request = urllib.request.Request(  # noqa: S310
            f"{url}/v2/models/{name}/infer",
            data=json.dumps({"inputs": [features(rows)]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return {output["name"]: output["data"] for output in json.load(answer)["outputs"]}


def config_of(job: str) -> TrainingConfig:
    """The config that the job's first attempt was run with."""
    return TrainingConfig.model_validate_json(get("configmap", f"{job}-1-config")["data"]["config.json"])


def served_digest(name: str) -> str:
    """The digest in both statuses, which must be the same."""
    trained = get("trainingjob", name)["status"]["model"]["digest"]
    served = get("modeldeployment", name)["status"]["model"]["digest"]
    if trained != served:
        raise DisagreementError(f"{name}: {trained} was trained, {served} is served")
    return str(trained)


def demo(own_node: bool) -> int:
    """Install, apply, wait, ask and compare."""
    began = time.monotonic()

    def told(line: str) -> None:
        say(f"{time.monotonic() - began:6.1f} s  {line}")

    install(own_node)
    told("the operator is installed and leads")
    prepare(own_node)
    manifests = load_manifests([str(SAMPLES / "line.yaml"), str(SAMPLES / "iris.yaml")])
    for manifest in manifests:
        manifest["metadata"]["namespace"] = NAMESPACE
    kubectl("apply", "-f", "-", text=yaml.safe_dump_all(manifests))
    told("kubectl apply")
    for name in ("line", "iris"):
        kubectl("wait", "--for=condition=Succeeded", f"tjob/{name}", WAIT)
        told(f"tjob/{name}: {_message('tjob', name, 'Succeeded')}")
    for name in ("line", "iris"):
        kubectl("wait", "--for=condition=Ready", f"mdep/{name}", WAIT)
        told(f"mdep/{name}: {_message('mdep', name, 'Ready')}")
    content = get("configmap", "iris")["data"]["iris.csv"]
    metrics = get("tjob", "iris")["status"]["evaluation"]["metrics"]
    # A line is known by two of its points.
    b_and_sum = infer("line", [[0.0], [1.0]])["prediction"]
    iris = Iris(config_of("iris"), content)
    lines = [
        *check_line(config_of("line"), b_and_sum[1] - b_and_sum[0], b_and_sum[0], infer("line", [[2.0]])["prediction"][0]),
        *check_iris(iris, metrics, infer("iris", numbers(iris.asked()))),
        "",
        *(f"{name}: trained and served with the same digest {served_digest(name)}" for name in ("line", "iris")),
    ]
    say("\n".join(lines))
    say("")
    say(kubectl("get", "tjob,mdep").rstrip())
    kubectl("delete", "trainingjobs,modeldeployments", "--all", "--wait=true")
    say(f"\nAll as it should be, after {time.monotonic() - began:.0f} s.")
    return 0


def _message(kind: str, name: str, type_: str) -> str:
    conditions = get(kind, name)["status"]["conditions"]
    return next(str(entry["message"]) for entry in conditions if entry["type"] == type_)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnavailableError as error:
        sys.exit(f"{error}\nOr set KUBECONFIG to a cluster of yours.")
    except DisagreementError as error:
        sys.exit(str(error))
