"""What a test needs to hold dashboard and alerts against a real Prometheus.

`queries()` are those of all panels, ready to be sent. `prometheus_configuration()` and `targets()` make any Prometheus (Debian's
knows no discovery by Kubernetes) scrape what the chart's monitors name: write the targets of the live pods into the file
whenever pods come and go, Prometheus reads it again by itself.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent
METRICS_PORT = 8080
EVERYTHING = {"$namespace": ".*", "$job": ".*", "$deployment": ".*", "$__rate_interval": "1m"}

EMPTY_WITHOUT_CAUSE = frozenset({"GPUs"})
"""Panels that show nothing unless something uses GPUs; every other one has data after a job and a deployment."""

POD_LABELS = {
    "ray.io/cluster": "ray_io_cluster",
    "ray.io/node-type": "ray_io_node_type",
    "eagleray.io/training-job": "training_job",
    "eagleray.io/model-deployment": "model_deployment",
    "eagleray.io/revision": "revision",
}
"""Labels of a Ray pod that its series carry, as the chart's PodMonitor has them."""


class Query(NamedTuple):
    """One query of a panel."""

    panel: str
    expression: str

    @property
    def may_be_empty(self) -> bool:
        """Whether a run of one job and one deployment may leave it without data."""
        return self.panel in EMPTY_WITHOUT_CAUSE


def queries(variables: Mapping[str, str] = EVERYTHING, dashboard: Path = FOLDER / "dashboard.json") -> list[Query]:
    """Queries of all panels, with the dashboard's variables filled in."""
    return list(_queries(json.loads(dashboard.read_text(encoding="utf-8"))["panels"], variables))


def _queries(panels: list[dict[str, Any]], variables: Mapping[str, str]) -> Iterator[Query]:
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"]
            # Longest first: no variable is the beginning of one that comes later.
            for name in sorted(variables, key=len, reverse=True):
                expression = expression.replace(name, variables[name])
            yield Query(panel["title"], expression)
        yield from _queries(panel.get("panels", []), variables)


def prometheus_configuration(targets_file: Path, scrape_interval: str = "5s") -> str:
    """Configuration of a Prometheus that scrapes the targets in that JSON file and evaluates our alerts."""
    discovery = [{"files": [str(targets_file)], "refresh_interval": "5s"}]
    kept = {"source_labels": ["source"], "action": "keep"}
    configuration = {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "scrape_configs": [
            {
                "job_name": "eagleray-operator",
                # The labels namespace and name are those of the resource that a series is about.
                "honor_labels": True,
                "file_sd_configs": discovery,
                "relabel_configs": [kept | {"regex": "operator"}],
            },
            {"job_name": "eagleray-ray", "file_sd_configs": discovery, "relabel_configs": [kept | {"regex": "ray"}]},
        ],
    }
    return yaml.safe_dump(configuration, sort_keys=False)


def targets(pods: Iterable[Mapping[str, Any]]) -> str:
    """The operator's and our Ray pods among these, as the JSON file of targets."""
    return json.dumps([target for pod in pods if (target := _target(pod)) is not None], indent=2)


def _target(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
    address = pod.get("status", {}).get("podIP")
    if labels.get("app.kubernetes.io/part-of") == "eagleray" and labels.get("app.kubernetes.io/component") == "operator":
        source = "operator"
    elif labels.get("app.kubernetes.io/managed-by") == "eagleray":
        source = "ray"
    else:
        return None
    if not address or pod["status"].get("phase") != "Running":
        return None
    shown = {"source": source, "namespace": metadata["namespace"], "pod": metadata["name"]}
    for label, name in POD_LABELS.items():
        if label in labels:
            shown[name] = labels[label]
    return {"targets": [f"{address}:{METRICS_PORT}"], "labels": shown}
