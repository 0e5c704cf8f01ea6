"""The same model served three ways on a real cluster, in one run: by a ModelDeployment, by a hand-written RayService with Ray
Serve's defaults, and by the same callable on bare uvicorn in a pod.

    python3 -m tests.cluster exec -- .venv/bin/python -m bench.serving_cluster [--store-secret FILE]

Needs kubectl with a cluster on which the operator runs and whose Services can be reached from here, as after `make demo-cluster`
(of whose model store FILE is the Secret: `kubectl -n eagleray-demo get secret model-store -o yaml`, without its namespace).
Two ratios of starting (apply until the first answer through the Service) and two of requests per second at 32 connections
come out; single times of a shared machine say little.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

from bench.serving import COLUMNS, generate

NAMESPACE = "eagleray-bench"
MODEL = "m"
DEADLINE_SECONDS = 300

BARE = """
import os
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.protocol import OpenInference


class NoMeter:
    def answered(self, status, seconds):
        pass


def application():
    with open(os.environ["EAGLERAY_CONFIG"]) as config:
        return OpenInference(load_model(ServingConfig.model_validate_json(config.read())), NoMeter())


def defaults(args):
    from ray import serve

    return serve.deployment(serve.ingress(application)(), name="Model").bind()
"""


def kubectl(*arguments: str, text: str | None = None) -> str:
    result = subprocess.run(["kubectl", "-n", NAMESPACE, *arguments], input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def apply(*manifests: dict[str, Any]) -> None:
    # As JSON: kubectl reads a bare y in YAML as true.
    kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def get(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-o", "json"))
    return found


def until(holds: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        try:
            if answer := holds():
                return answer
        except (RuntimeError, urllib.error.URLError, OSError, KeyError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"not within {DEADLINE_SECONDS} s: {what}")


def rows() -> dict[str, Any]:
    """200 rows of 64 numbers and a class of ten."""
    random = np.random.default_rng(0)
    header = ",".join([*(f"x{index}" for index in range(COLUMNS)), "y"])
    lines = [",".join([*(f"{value:.3f}" for value in random.normal(size=COLUMNS)), str(row % 10)]) for row in range(200)]
    data = {"rows.csv": "\n".join([header, *lines])}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": data}


def own(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "eagleray.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def answers(host: str, port: int) -> bool:
    with urllib.request.urlopen(f"http://{host}:{port}/v2/models/{MODEL}/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def hand_written(ours: dict[str, Any]) -> dict[str, Any]:
    """A RayService as its documentation has it: the image, the model and the pods' sizes are ours, the rest is default."""
    cluster = ours["spec"]["rayClusterConfig"]

    def template(group: dict[str, Any]) -> dict[str, Any]:
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        kept = {key: container[key] for key in ("name", "image", "imagePullPolicy", "resources")}
        mounts = [*container["volumeMounts"], {"name": "code", "mountPath": "/bench"}]
        environment = [
            {"name": "EAGLERAY_CONFIG", "value": "/etc/eagleray/config.json"},
            {"name": "PYTHONPATH", "value": "/bench"},
        ]
        volumes = [*pod["volumes"], {"name": "code", "configMap": {"name": "bare"}}]
        return {"spec": {"containers": [kept | {"env": environment, "volumeMounts": mounts}], "volumes": volumes}}

    serve = {
        "applications": [
            {
                "name": "app",
                "route_prefix": "/",
                "import_path": "bare:defaults",
                "args": {},
                "deployments": [{"name": "Model", "num_replicas": 1, "ray_actor_options": {"num_cpus": 1}}],
            }
        ]
    }
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "hand-written"},
        "spec": {
            "serveConfigV2": yaml.safe_dump(serve),
            "rayClusterConfig": {
                "rayVersion": cluster["rayVersion"],
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template(head)},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 1,
                        "rayStartParams": {},
                        "template": template(workers),
                    }
                ],
            },
        },
    }


def bare_pod(ours: dict[str, Any]) -> dict[str, Any]:
    """The same callable with the same codec on uvicorn alone."""
    pod = hand_written(ours)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    container = pod["containers"][0] | {
        "command": ["python", "-m", "uvicorn", "--factory", "bare:application", "--host", "0.0.0.0", "--port", "8000"],  # noqa: S104
        "args": ["--no-access-log", "--log-level", "warning"],
    }
    container["env"] = [*container["env"], {"name": "OMP_NUM_THREADS", "value": "1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare"},
        "spec": {"containers": [container], "volumes": pod["volumes"]},
    }


def gone(*kinds: str) -> None:
    for kind in kinds:
        kubectl("delete", kind, "--all", "--wait=true", "--ignore-not-found")
    until(lambda: json.loads(kubectl("get", "pods", "-o", "json"))["items"] == [], "the pods are gone")


def start_ours(uri: str) -> tuple[float, dict[str, Any]]:
    """Seconds from apply until Ready, which comes after a real answer through the Service; and the RayService."""
    begin = time.monotonic()
    apply(own("ModelDeployment", MODEL, model={"uri": uri}, resources={"cpus": 0.3}))
    kubectl("wait", "--for=condition=Ready", f"mdep/{MODEL}", f"--timeout={DEADLINE_SECONDS}s")
    seconds = time.monotonic() - begin
    return seconds, get("rayservice", get("mdep", MODEL)["status"]["activeRevision"])


def start_by_hand(manifest: dict[str, Any]) -> float:
    """Seconds from apply until the first answer through KubeRay's Service."""
    begin = time.monotonic()
    apply(manifest)
    host = until(lambda: get("service", "hand-written-serve-svc")["spec"]["clusterIP"], "the Service of the RayService")
    until(lambda: answers(host, 8000), "an answer of the RayService")
    return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load, in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant has its turn under load")
    parser.add_argument("--starts", type=int, default=2, help="how often each of the two is started")
    parser.add_argument("--store-secret", default="", help="file of the Secret that the model store needs")
    arguments = parser.parse_args()
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], capture_output=True, check=False)
    if arguments.store_secret:
        kubectl("apply", "-f", arguments.store_secret)
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bare"}, "data": {"bare.py": BARE}}
    perceptron = {"family": "MultilayerPerceptron", "multilayerPerceptron": {"hiddenLayers": [256, 256]}}
    data = {"configMapRef": {"name": "rows", "key": "rows.csv"}, "target": "y"}
    apply(rows(), code, own("TrainingJob", "bench", data=data, model=perceptron, training={"epochs": 1, "engine": "NumPy"}))
    kubectl("wait", "--for=condition=Succeeded", "tjob/bench", f"--timeout={DEADLINE_SECONDS}s")
    uri = get("tjob", "bench")["status"]["model"]["uri"]
    until(lambda: json.loads(kubectl("get", "pods", "-o", "json"))["items"] == [], "the job's pods are gone")

    starts: dict[str, list[float]] = {"eagleray": [], "by_hand": []}
    ours: dict[str, Any] = {}
    for _ in range(arguments.starts):
        seconds, ours = start_ours(uri)
        starts["eagleray"].append(seconds)
        kept = ours["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["volumes"]
        config = next(volume["configMap"]["name"] for volume in kept if volume["name"] == "config")
        content = get("configmap", config)["data"]
        gone("mdep")
        # The hand-written one reads the same config, which went with its owner.
        apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config}, "data": content})
        starts["by_hand"].append(start_by_hand(hand_written(ours)))
        gone("rayservice")
        kubectl("delete", "configmap", config)

    _, ours = start_ours(uri)
    start_by_hand(hand_written(ours))
    apply(bare_pod(ours))
    pod_ip = until(lambda: get("pod", "bare")["status"].get("podIP"), "the bare pod's address")
    until(lambda: answers(pod_ip, 8000), "an answer of bare uvicorn")
    targets = {
        "uvicorn": (pod_ip, 8000),
        "eagleray": (get("service", MODEL)["spec"]["clusterIP"], 80),
        "serve_defaults": (get("service", "hand-written-serve-svc")["spec"]["clusterIP"], 8000),
    }
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for host, port in targets.values():
        generate(port, 4, 2.0, host)
    for _ in range(arguments.rounds):
        for name, (host, port) in targets.items():
            rates[name].append(len(generate(port, 32, arguments.seconds, host)) / arguments.seconds)
    gone("mdep", "rayservice", "tjob", "pod")
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    rate = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "start_seconds": {name: [round(value, 1) for value in values] for name, values in starts.items()},
        "start_of_by_hand": round(statistics.median(starts["eagleray"]) / statistics.median(starts["by_hand"]), 2),
        "requests_per_second_32_connections": {name: [round(value) for value in values] for name, values in rates.items()},
        "of_bare_uvicorn": round(rate["eagleray"] / rate["uvicorn"], 3),
        "times_serve_defaults": round(rate["eagleray"] / rate["serve_defaults"], 1),
    }
    print(json.dumps(result, indent=2))
    met = result["start_of_by_hand"] <= 1.2 and result["of_bare_uvicorn"] >= 0.25 and result["times_serve_defaults"] >= 8  # type: ignore[operator]
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
