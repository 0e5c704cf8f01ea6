"""The ConfigMap with the runtime's config file."""

from typing import Any

from eagleray_operator.api.common import Metadata
from eagleray_operator.children import metadata
from eagleray_runtime.contract import names as runtime_names
from eagleray_runtime.contract.blocks import Block


def build(kind: str, owner: Metadata, name: str, config: Block, **labels: str) -> dict[str, Any]:
    """ConfigMap `name` with the config as JSON, of one attempt or revision and like these never changed."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata.child(kind, owner, name, **labels),
        "immutable": True,
        "data": {runtime_names.CONFIG_FILE: config.model_dump_json(by_alias=True, exclude_none=True, indent=1)},
    }
