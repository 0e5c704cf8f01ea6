"""The bundle that training starts from, as `model.startFrom` names it."""

from typing import Any

from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.start import Start
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture import Architecture
from eagleray_runtime.storage import Store

MAY_DIFFER = {"dropout"}
"""What of an architecture has no part in what its weights mean."""


def read_start(config: TrainingConfig) -> Start | None:
    """The verified bundle of the configuration, if it names one.

    Raises:
        StoreRefused, DigestMismatch, ModelInvalid: as `read_bundle`.
    """
    if config.start is None:
        return None
    bundle = read_bundle(Store(config.start.location), config.start.digest)
    manifest = bundle.manifest
    return Start(
        uri=config.start.location.uri,
        digest=bundle.digest,
        preparation=manifest.preparation,
        classes=manifest.classes,
        architecture=_told(manifest.architecture),
        words=manifest.architecture.words,
        parameters=bundle.parameters,
    )


def require_like(start: Start, architecture: Architecture) -> None:
    """Refuse a network that the weights are not those of.

    Raises:
        ModelInvalid: it is another one.
    """
    other = _told(architecture)
    if other == start.architecture:
        return
    names = [name for name in other if other[name] != start.architecture.get(name)]
    raise ModelInvalid(
        f"model.startFrom: the model at {start.uri} is another one: {start.words}; here: {architecture.words}. They differ in "
        f"{', '.join(names)}: set model and training.loss to the same"
    )


def _told(architecture: Architecture) -> dict[str, Any]:
    return {name: value for name, value in architecture.model_dump(mode="json").items() if name not in MAY_DIFFER}
