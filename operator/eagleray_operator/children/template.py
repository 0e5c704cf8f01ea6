"""Pods keep what they were made with: whether a RayJob or RayService is as this operator would make it now."""

import copy
from collections.abc import Mapping
from typing import Any

from eagleray_operator.api import names

KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")


def marked(manifest: dict[str, Any], content: Any) -> dict[str, Any]:
    """The manifest with a mark of the content that its pods are made from."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_TEMPLATE: names.content_hash(content)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def is_that_of(live: Mapping[str, Any], rendered: Mapping[str, Any]) -> bool:
    """Whether the live object was made from the same content; if so, what differs was changed by hand."""
    return _mark(live) == _mark(rendered)


def as_made(live: Mapping[str, Any]) -> dict[str, Any]:
    """The live object as one to apply; its spec is a copy that may be changed."""
    metadata = {key: live["metadata"][key] for key in KEPT_METADATA if key in live["metadata"]}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": copy.deepcopy(live["spec"])}


def _mark(manifest: Mapping[str, Any]) -> str | None:
    mark: str | None = (manifest["metadata"].get("annotations") or {}).get(names.ANNOTATION_TEMPLATE)
    return mark
