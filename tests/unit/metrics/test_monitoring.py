import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from eagleray_operator.api.reasons import Reason
from eagleray_operator.metrics import Metrics
from manifests.monitoring.verification import EVERYTHING, FOLDER, prometheus_configuration, queries, targets

CHART_FILES = FOLDER.parents[1] / "helm" / "eagleray" / "files"
REFERENCE = FOLDER.parents[1] / "docs" / "reference"

OF_PODS = {
    "ray_eagleray_model_requests_total",
    "ray_eagleray_model_errors_total",
    "ray_eagleray_model_latency_seconds_bucket",
    "ray_node_cpu_utilization",
    "ray_node_mem_used",
    "ray_node_mem_total",
}


class NoResources:
    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return []


def series_of_the_operator() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry).expose(NoResources())
    # The registry keeps every name that a collector may write, to refuse a second one.
    return set(registry._names_to_collectors)


def mentioned(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:ray_)?(?:eagleray|ray)_[a-z_]+\b(?=[\[{ )]|$)", expression)) - {"ray_io_cluster"}


def promtool(*arguments: str, folder: Path = FOLDER) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")
    result = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_dashboard_is_the_one_that_the_code_writes() -> None:
    code = pytest.importorskip("manifests.monitoring.dashboard", reason="grafana-foundation-sdk is missing", exc_type=ImportError)
    assert (FOLDER / "dashboard.json").read_text(encoding="utf-8") == code.rendered()


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yaml"])
def test_the_chart_ships_a_copy(name: str) -> None:
    assert (CHART_FILES / name).read_text(encoding="utf-8") == (FOLDER / name).read_text(encoding="utf-8")


def test_the_dashboard_is_bound_to_no_data_source_and_keeps_its_address() -> None:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    assert dashboard["uid"] == "eagleray-models-and-jobs"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        assert panel["targets"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_queries_ask_for_series_that_there_are_and_hold_no_variable() -> None:
    known = series_of_the_operator() | OF_PODS
    found = queries()
    assert len(found) > 25
    for query in found:
        assert "$" not in query.expression
        assert mentioned(query.expression) <= known, query
        assert mentioned(query.expression), query


def test_alerts_ask_for_series_and_reasons_that_there_are() -> None:
    rules = [
        rule
        for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    known = series_of_the_operator() | OF_PODS
    reasons = {str(reason) for reason in Reason}
    for rule in rules:
        assert mentioned(rule["expr"]) <= known, rule["alert"]
        assert {"summary", "description"} <= set(rule["annotations"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        for named in re.findall(r'reason!?[=~]+"([^"]+)"', rule["expr"]):
            assert set(named.split("|")) <= reasons


def test_every_series_is_in_the_reference_and_none_that_there_is_not() -> None:
    text = (REFERENCE / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:ray_)?eagleray_[a-z_]+)", text))
    suffixes = ("_bucket", "_sum", "_count", "_created")
    ours = {name for name in series_of_the_operator() if name.startswith("eagleray_")}
    families = {name for name in ours if not name.endswith(suffixes) and f"{name}_total" not in ours and name != "eagleray_build"}
    pods = {"ray_eagleray_model_requests_total", "ray_eagleray_model_errors_total", "ray_eagleray_model_latency_seconds"}
    assert documented == families | pods


def test_promtool_accepts_the_alerts_and_their_tests_hold() -> None:
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts_test.yaml")


def pod(name: str, ip: str | None, phase: str = "Running", **labels: str) -> dict[str, Any]:
    status = {"phase": phase} | ({"podIP": ip} if ip else {})
    return {"metadata": {"namespace": "ml", "name": name, "labels": labels}, "status": status}


def test_targets_are_the_running_pods_of_ours() -> None:
    operator = {"app.kubernetes.io/part-of": "eagleray", "app.kubernetes.io/component": "operator"}
    ray = {"app.kubernetes.io/managed-by": "eagleray", "ray.io/cluster": "iris-1-x", "eagleray.io/model-deployment": "iris"}
    found = json.loads(
        targets(
            [
                pod("operator", "10.0.0.1", **operator),
                pod("head", "10.0.0.2", **ray),
                pod("waiting", None, "Pending", **ray),
                pod("done", "10.0.0.3", "Succeeded", **ray),
                pod("other", "10.0.0.4", app="other"),
            ]
        )
    )
    assert [(target["targets"], target["labels"]["source"]) for target in found] == [
        (["10.0.0.1:8080"], "operator"),
        (["10.0.0.2:8080"], "ray"),
    ]
    assert found[1]["labels"]["ray_io_cluster"] == "iris-1-x"
    assert found[1]["labels"]["model_deployment"] == "iris"


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text(targets([]))
    (tmp_path / "prometheus.yaml").write_text(prometheus_configuration(tmp_path / "targets.json"))
    promtool("check", "config", "prometheus.yaml", folder=tmp_path)


def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"panel:query{number}", "expr": query.expression} for number, query in enumerate(queries(EVERYTHING))]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "queries.yaml", folder=tmp_path)
