"""Metadata of a child: name, labels and the owner that takes it along when it goes."""

from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata


def child(kind: str, owner: Metadata, name: str, **labels: str) -> dict[str, Any]:
    """Metadata of a child of the resource `owner` of that kind; `labels` are labels of our group by short name."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": names.labels(kind, owner.name, **labels),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
