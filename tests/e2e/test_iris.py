"""Train real data and serve the model: what the cluster tells of it, what public clients and Prometheus see."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.monitoring.verification import prometheus_configuration, queries, targets
from tests.cluster import Node
from tests.e2e.conftest import CLIENTS, REPOSITORY, Measured, NewNamespace, manifest, stored
from tests.e2e.neighbours import CLOSED, SERVE, address_of, knock, neighbour
from tests.support.live_cluster import LiveCluster
from tests.support.locks import installed

SAMPLE = REPOSITORY / "manifests" / "samples" / "iris.yaml"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
SPECIES = ["setosa", "versicolor", "virginica"]


@pytest.fixture(scope="module")
def iris(cluster: LiveCluster, new_namespace: NewNamespace, prometheus: "Prometheus", measured: Measured) -> str:
    """The namespace in which the sample was applied, trained and came to serve."""
    namespace = new_namespace("iris")
    began = time.monotonic()
    cluster.apply(*small(yaml.safe_load_all(SAMPLE.read_text())), namespace=namespace)
    for what, resource in (("Succeeded", "tjob/iris"), ("Ready", "mdep/iris")):
        cluster.wait(what, resource, namespace)
        measured[f"iris: apply -> {what}"] = time.monotonic() - began
    return namespace


def small(manifests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The sample, with pods that ask for little: the node has few processors."""
    for found in manifests:
        yield found if found["kind"] == "ConfigMap" else manifest(found["kind"], found["metadata"]["name"], **found["spec"])


def test_the_model_that_was_saved_is_the_one_that_is_served(cluster: LiveCluster, node: Node, iris: str) -> None:
    trained = cluster.get("TrainingJob", "iris", iris)["status"]["model"]
    served = cluster.get("ModelDeployment", "iris", iris)["status"]["model"]
    assert served["uri"] == trained["uri"]
    assert served["digest"] == trained["digest"]
    content = (stored(node, trained["uri"]) / "bundle.json").read_bytes()
    assert trained["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_job_tells_how_good_the_model_is(cluster: LiveCluster, iris: str) -> None:
    status = cluster.get("TrainingJob", "iris", iris)["status"]
    [accuracy] = [m["value"] for m in status["evaluation"]["metrics"] if (m["name"], m["part"]) == ("Accuracy", "Test")]
    assert accuracy >= 0.9
    assert status["progress"]["percent"] == 100
    assert [attempt["reason"] for attempt in status["attempts"]] == ["Completed"]


def test_tritons_client_gets_the_right_answer_through_the_service(cluster: LiveCluster, node: Node, iris: str) -> None:
    assert answer_of("triton", [sys.executable], cluster, node, iris) == SPECIES


def test_kserves_client_gets_the_right_answer_through_the_service(cluster: LiveCluster, node: Node, iris: str) -> None:
    # Beside our packages, for it fixes versions that are not ours.
    python = ["env", f"PYTHONPATH={installed('kserve')}", sys.executable]
    assert answer_of("inference_rest", python, cluster, node, iris) == SPECIES


def answer_of(client: str, python: list[str], cluster: LiveCluster, node: Node, namespace: str) -> Any:
    address = f"{cluster.cluster_ip('iris', namespace)}:80"
    words = [*python, str(CLIENTS / f"{client}.py"), address, "iris", json.dumps(ROWS)]
    return json.loads(node.exec(words, seconds=60).stdout)


class Prometheus:
    """A real Prometheus inside the node that scrapes our pods as they come and go."""

    ADDRESS = "127.0.0.1:19090"

    def __init__(self, node: Node, cluster: LiveCluster, folder: Path) -> None:
        self._node, self._cluster = node, cluster
        self._targets = folder / "targets.json"
        self._targets.write_text("[]")
        self._configuration = folder / "prometheus.yaml"
        self._configuration.write_text(prometheus_configuration(self._targets))
        self._folder = folder
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Prometheus":
        options = [f"--config.file={self._configuration}", f"--storage.tsdb.path={self._folder / 'data'}"]
        listen = f"--web.listen-address={self.ADDRESS}"
        self._process = self._node.start(["prometheus", *options, listen], log=self._folder / "prometheus.log")
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._follower.join()
        self._process.terminate()
        self._process.wait(timeout=30)

    def _follow(self) -> None:
        while not self._ended.wait(1):
            status, body = self._cluster.request("/api/v1/pods")
            if status == 200:
                pods = json.loads(body)["items"]
                written = self._targets.with_suffix(".new")
                written.write_text(targets(pods))
                os.replace(written, self._targets)

    def ask(self, expressions: list[str]) -> list[Any]:
        """The answers of the HTTP API."""
        words = [sys.executable, str(CLIENTS / "prometheus.py"), self.ADDRESS]
        answers: list[Any] = json.loads(self._node.exec(words, text=json.dumps(expressions), seconds=60).stdout)
        return answers

    def down(self) -> list[str]:
        """Targets that could not be scraped, and why none are known."""
        [answer] = self.ask(["up"])
        series = answer["data"]["result"]
        return [f"{one['metric']}" for one in series if one["value"][1] != "1"] if series else ["no targets"]


@pytest.fixture(scope="module")
def prometheus(node: Node, cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        if shutil.which("apt-get") is None:
            pytest.skip("prometheus is missing, and there is no apt-get to install it with")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"]
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
        subprocess.run(install, check=True, env=environment)
    with Prometheus(node, cluster, tmp_path_factory.mktemp("prometheus")) as started:
        yield started


def test_every_query_of_the_dashboard_has_an_answer_in_a_real_prometheus(
    cluster: LiveCluster, node: Node, prometheus: Prometheus, iris: str
) -> None:
    address = f"{cluster.cluster_ip('iris', iris)}:80"
    load = [sys.executable, str(CLIENTS / "load.py"), address, "iris", "4", "12", "2", "0"]
    answers = json.loads(node.exec(load, seconds=60).stdout)
    assert set(answers) == {"200"}
    all_queries = queries()

    def unanswered() -> list[str]:
        found = prometheus.ask([query.expression for query in all_queries])
        wrong = [f"{q.panel}: {a['error']}" for q, a in zip(all_queries, found, strict=True) if a["status"] != "success"]
        assert not wrong
        return [
            f"{query.panel}: {query.expression}"
            for query, answer in zip(all_queries, found, strict=True)
            if not answer["data"]["result"] and not query.may_be_empty
        ]

    left: list[str] = []

    def answered() -> bool:
        left[:] = unanswered()
        return not left

    try:
        cluster.until(answered, "every query has data", seconds=60)
    except AssertionError:
        pytest.fail(f"without data: {left}; down: {prometheus.down()}")


def test_prometheus_counts_what_the_model_answered_and_knows_the_state(
    cluster: LiveCluster, prometheus: Prometheus, iris: str
) -> None:
    wanted = {
        f'sum(ray_eagleray_model_requests_total{{namespace="{iris}",model="iris",code="200"}})': lambda value: value > 10,
        f'eagleray_modeldeployment_condition{{namespace="{iris}",name="iris",condition="Ready",status="True"}}': lambda v: v == 1,
        f'eagleray_trainingjob_condition{{namespace="{iris}",name="iris",condition="Complete",status="True"}}': lambda v: v == 1,
        "sum(eagleray_leader)": lambda value: value == 1,
    }
    for (expression, holds), answer in zip(wanted.items(), prometheus.ask(list(wanted)), strict=True):
        [series] = answer["data"]["result"]
        assert holds(float(series["value"][1])), expression


def test_the_model_answers_its_namespace_and_nobody_else(cluster: LiveCluster, new_namespace: NewNamespace, iris: str) -> None:
    abroad = new_namespace("abroad")
    cluster.apply(neighbour("next-door"), namespace=iris)
    cluster.apply(neighbour("stranger"), namespace=abroad)
    cluster.wait("Ready", "pod/next-door", iris, 60)
    cluster.wait("Ready", "pod/stranger", abroad, 60)
    service = cluster.cluster_ip("iris", iris)
    replica = address_of(cluster, iris, "eagleray.io/model-deployment=iris,ray.io/node-type=worker")
    assert knock(cluster, iris, "next-door", service, 80)
    assert knock(cluster, iris, "next-door", replica, SERVE)
    assert not knock(cluster, abroad, "stranger", replica, SERVE)
    head = address_of(cluster, iris, "eagleray.io/model-deployment=iris,ray.io/node-type=head")
    for port in CLOSED.values():
        assert not knock(cluster, iris, "next-door", head, port)
