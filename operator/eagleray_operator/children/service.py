"""The Service of a deployment; its selector names the revision that gets the traffic."""

from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.children import metadata
from eagleray_runtime.contract import names as runtime_names

PORT = 80


def selector(deployment: str, revision: str) -> dict[str, str]:
    """Labels of the pods that answer for a revision; KubeRay gives `ray.io/serve` to those with a Serve proxy."""
    return {names.LABEL_MODEL_DEPLOYMENT: deployment, names.LABEL_REVISION: revision, "ray.io/serve": "true"}


def build(owner: Metadata, revision: str) -> dict[str, Any]:
    """Service `<name>` in front of the revision's replicas."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata.child(names.MODEL_DEPLOYMENT, owner, owner.name),
        "spec": {
            "selector": selector(owner.name, revision),
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": runtime_names.SERVE_PORT}],
        },
    }
