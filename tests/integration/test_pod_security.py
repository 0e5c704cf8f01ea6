"""The apiserver's own judgement of every pod that we have made, in a namespace that enforces `restricted`."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import ClusterError
from tests.integration.conftest import Apiserver

Manifest = dict[str, Any]

OUTPUTS = sorted((Path(__file__).parents[1] / "golden").glob("*/out.yaml"))


def pods(path: Path) -> list[Manifest]:
    """The pods of a golden output, the autoscaler's container beside the head's as KubeRay puts it there."""
    made = []
    for found in yaml.safe_load_all(path.read_text()):
        if found["kind"] not in ("RayJob", "RayService"):
            continue
        cluster = found["spec"].get("rayClusterSpec") or found["spec"]["rayClusterConfig"]
        for number, group in enumerate([cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]):
            spec = copy.deepcopy(group["template"]["spec"])
            options = cluster.get("autoscalerOptions")
            if number == 0 and options:
                image = spec["containers"][0]["image"]
                beside = {key: options[key] for key in ("securityContext", "resources", "volumeMounts")}
                spec["containers"].append({"name": "autoscaler", "image": image, **beside})
            metadata = {"name": f"{found['metadata']['name']}-{number}", "labels": group["template"]["metadata"]["labels"]}
            made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return made


@pytest.fixture(scope="module", autouse=True)
def priorities(apiserver: Apiserver) -> None:
    """The class that pods of the golden outputs name."""
    apiserver.kubectl("create", "priorityclass", "high", "--value=1000")


@pytest.fixture
def restricted(apiserver: Apiserver, namespace: str) -> str:
    apiserver.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    apiserver.kubectl("create", "serviceaccount", "default", "-n", namespace)
    return namespace


def create(apiserver: Apiserver, namespace: str, pod: Manifest) -> str:
    return apiserver.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", text=yaml.safe_dump(pod))


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.parent.name)
def test_our_pods_are_taken(apiserver: Apiserver, restricted: str, path: Path) -> None:
    made = pods(path)
    assert made
    for pod in made:
        assert "created" in create(apiserver, restricted, pod)


def test_one_that_may_become_root_is_refused(apiserver: Apiserver, restricted: str) -> None:
    pod = pods(OUTPUTS[0])[0]
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        create(apiserver, restricted, pod)
