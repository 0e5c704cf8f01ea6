"""The whole node with the chart installed; skipped by name where a machine cannot bring a node up."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import OBJECT_STORE, Node, UnavailableError
from tests.support.bundles import train_bundle
from tests.support.live_cluster import LiveCluster, proxied

REPOSITORY = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
RELEASE, SYSTEM = "eagleray", "eagleray-system"
OPERATOR_IMAGE = "localhost/eagleray-operator:dev"
S3_USER = 1000
STORE_SECRET = "model-store"

VALUES: dict[str, Any] = {
    "image": {"repository": OPERATOR_IMAGE.rpartition(":")[0], "tag": "dev"},
    "runtime": {"images": {"numpy": "localhost/eagleray-runtime:dev", "torch": "localhost/eagleray-runtime:dev-torch"}},
    "modelStore": {"uri": f"s3://{OBJECT_STORE.bucket}", "secretName": STORE_SECRET},
    # A change of the spec waits for the revision before it, and fewer replicas for the draining of the others.
    "settings": {
        "drainSeconds": 5,
        "progressIntervalSeconds": 2,
        "servingEnvironment": {
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
            "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "5",
        },
    },
}


Measured = dict[str, float]
MEASURED: Measured = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("e2e")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MEASURED:
        terminalreporter.section("measured on the node")
        for what, seconds in MEASURED.items():
            terminalreporter.write_line(f"{what}: {seconds:.1f} s")


@pytest.fixture(scope="session")
def measured() -> Measured:
    """Takes seconds by what took them; they stand at the end of pytest's output."""
    return MEASURED


@pytest.fixture(scope="session")
def node() -> Node:
    """A node that is up, with the images of this checkout. It stays up: the next run starts where this one ends."""
    found = Node(say=print)
    try:
        found.up()
    except UnavailableError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="session")
def torch_image(node: Node) -> None:
    try:
        node.load_image("torch")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """The node with the operator of this checkout, installed as a user installs it."""
    folder = tmp_path_factory.mktemp("cluster")
    # The tag stays the same, so that only the digest tells that there is another operator to be started.
    images = node.exec(["ctr", "--namespace", "k8s.io", "images", "list", f"name=={OPERATOR_IMAGE}"]).stdout
    digest = next(word for word in images.split() if word.startswith("sha256:"))
    values = folder / "values.json"
    values.write_text(json.dumps(VALUES | {"podAnnotations": {"image": digest}}))
    chart = str(REPOSITORY / "helm" / "eagleray")
    place = ("--namespace", SYSTEM, "--create-namespace", "--values", str(values))
    node.helm("upgrade", "--install", RELEASE, chart, *place, "--wait", "--timeout", "120s", seconds=150)
    with proxied(node, folder) as found:
        yield found


NewNamespace = Callable[[str], str]


@contextmanager
def namespaces(cluster: LiveCluster) -> Iterator[NewNamespace]:
    """Makes namespaces that enforce restricted pod security and hold the store's keys; all of them go at the end."""
    made: list[str] = []

    def make(topic: str) -> str:
        name = f"e2e-{topic}-{uuid.uuid4().hex[:6]}"
        enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
        made.append(name)
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforced}},
            store_secret(),
            namespace=name,
        )
        return name

    try:
        yield make
    finally:
        for name in made:
            # The resources first: in a namespace on its way out KubeRay could make no pods, and so nothing is made anew.
            cluster.kubectl("delete", "trainingjobs,modeldeployments", "--all", "-n", name, "--wait=false")
            cluster.kubectl("delete", "namespace", name, "--wait=false")
            shutil.rmtree(stored(cluster.node, f"s3://{OBJECT_STORE.bucket}/{name}"), ignore_errors=True)


@pytest.fixture(scope="module")
def new_namespace(cluster: LiveCluster) -> Iterator[NewNamespace]:
    """Makes namespaces that last as long as the tests of this file."""
    with namespaces(cluster) as make:
        yield make


def store_secret() -> dict[str, Any]:
    """The Secret with the keys of the node's S3 server."""
    keys = {
        "AWS_ACCESS_KEY_ID": OBJECT_STORE.access_key,
        "AWS_SECRET_ACCESS_KEY": OBJECT_STORE.secret_key,
        "AWS_ENDPOINT_URL": OBJECT_STORE.endpoint,
        "AWS_REGION": OBJECT_STORE.region,
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORE_SECRET}, "stringData": keys}


def stored(node: Node, uri: str) -> Path:
    """The folder of an s3:// URI: to the node's S3 server a bucket is a folder, and its objects are files."""
    return node.layout.run / "s3" / uri.removeprefix("s3://")


def put_bundle(node: Node, namespace: str, scratch: Path) -> tuple[str, Path]:
    """Train a classifier of flowers here and put its bundle into the store: its URI and its folder."""
    uri = f"s3://{OBJECT_STORE.bucket}/{namespace}/flowers"
    folder = stored(node, uri)
    train_bundle(scratch, folder)
    for path in (folder.parent, *folder.parent.rglob("*")):
        os.chown(path, S3_USER, S3_USER)
    return uri, folder


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """A resource of ours; pods ask for little, as the node has few processors."""
    small = {"workers": {"cpus": 0.2}} if kind == "TrainingJob" else {"resources": {"cpus": 0.2}}
    for field, values in small.items():
        spec[field] = values | spec.get(field, {})
    return {"apiVersion": "eagleray.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
