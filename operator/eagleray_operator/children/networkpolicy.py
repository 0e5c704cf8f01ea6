"""The NetworkPolicy around the pods of a resource: closed but for what they need."""

from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.children import metadata
from eagleray_operator.settings import Settings
from eagleray_runtime.contract import names as runtime_names

NAMESPACE_NAME = "kubernetes.io/metadata.name"


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _ports(*ports: int) -> list[dict[str, Any]]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def build(kind: str, owner: Metadata, settings: Settings) -> dict[str, Any]:
    """Policy of the resource's pods.

    In: one another, KubeRay to the dashboard, Prometheus to the metrics; to a deployment's Serve port also KubeRay, the
    operator's probe and the deployment's own namespace. Out: one another, DNS, a job's reports, and the addresses of the
    settings (stores, the apiserver for the autoscaler), which leave out the metadata services of clouds.
    """
    pods = {"matchLabels": {names.RESOURCE_LABEL[kind]: owner.name}}
    serving = kind == names.MODEL_DEPLOYMENT
    ingress: list[dict[str, Any]] = [
        {"from": [{"podSelector": pods}]},
        {
            "from": [_namespace(settings.network.kuberay_namespace)],
            "ports": _ports(runtime_names.DASHBOARD_PORT, *([runtime_names.SERVE_PORT] if serving else [])),
        },
    ]
    if serving:
        callers: list[dict[str, Any]] = [{"podSelector": {}}, _namespace(settings.namespace)]
        ingress.append({"from": callers, "ports": _ports(runtime_names.SERVE_PORT)})
    if settings.network.monitoring_namespace:
        scrapers = [_namespace(settings.network.monitoring_namespace)]
        ingress.append({"from": scrapers, "ports": _ports(runtime_names.METRICS_PORT)})
    egress: list[dict[str, Any]] = [
        {"to": [{"podSelector": pods}]},
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
    ]
    # An empty list of peers would let everything through.
    if blocks := [_block(cidr, settings.network.egress_except) for cidr in settings.network.egress_cidrs]:
        egress.append({"to": blocks})
    if not serving and settings.reports_url:
        # The Service of the reports and the pods behind it listen on the same port.
        port = urlsplit(settings.reports_url).port or 80
        egress.append({"to": [_namespace(settings.namespace)], "ports": _ports(port)})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata.child(kind, owner, names.network_policy(kind, owner.name)),
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _block(cidr: str, excepted: list[str]) -> dict[str, Any]:
    block: dict[str, Any] = {"cidr": cidr}
    # An exception must lie within its block, or the apiserver refuses the policy.
    if within := [exception for exception in excepted if _lies_within(exception, cidr)]:
        block["except"] = within
    return {"ipBlock": block}


def _lies_within(inner: str, outer: str) -> bool:
    one, other = ip_network(inner), ip_network(outer)
    return one.version == other.version and one != other and one.subnet_of(other)  # type: ignore[arg-type]
