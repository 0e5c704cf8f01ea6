"""One loaded bundle: tensors in, tensors out."""

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.reading import Bundle, read_bundle
from eagleray_runtime.contract.blocks import RemoteCode
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture import Custom
from eagleray_runtime.serving.continuing import continuing
from eagleray_runtime.serving.predicting import Predicting
from eagleray_runtime.serving.tensors import Tensor
from eagleray_runtime.storage import Store

NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})
NOBODY_GONE = threading.Event()
"""Never set."""


class Answering(Protocol):
    """What a bundle computes.

    `files` are the inputs that hold files instead of text; `about` is what its metadata say beside the signature; `work` is
    about how many multiplications a row takes, and `byte_work` each byte of a request beside; `device` is where it computes, cpu
    or cuda.
    """

    files: frozenset[str]
    about: dict[str, str]
    work: int
    byte_work: int
    device: str

    def __call__(self, inputs: Sequence[Tensor], parameters: Mapping[str, Any], gone: threading.Event) -> dict[str, AnyArray]:
        """Outputs by name, of inputs and parameters of a request; of any use no more once the client has gone.

        Raises:
            BadTensorError: they are not those of the model.
        """
        ...


class ServedModel:
    """A verified bundle with what computes it; `files`, `work` and `byte_work` are as of `Answering`."""

    def __init__(self, config: ServingConfig, bundle: Bundle, answer: Answering) -> None:
        manifest = bundle.manifest
        self.name = config.name
        self.version = config.revision
        self.example = manifest.example
        self._answer = answer
        self.files, self.work, self.byte_work = answer.files, answer.work, answer.byte_work
        self.outputs = {tensor.name: tensor.datatype for tensor in manifest.signature.outputs}
        self.metadata: dict[str, Any] = {
            "name": config.name,
            "versions": [config.revision],
            "platform": f"eagleray_{config.engine.lower()}",
            "inputs": [tensor.model_dump() for tensor in manifest.signature.inputs],
            "outputs": [tensor.model_dump() for tensor in manifest.signature.outputs],
            "parameters": {
                "digest": bundle.digest,
                "engine": str(config.engine),
                "family": str(manifest.family),
                "revision": config.revision,
                "device": answer.device,
                **answer.about,
            },
        }

    def infer(
        self,
        inputs: Sequence[Tensor],
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        gone: threading.Event = NOBODY_GONE,
    ) -> dict[str, AnyArray]:
        """Outputs by name, as `Predicting` or `Continuing` has them.

        Raises:
            BadTensorError: the inputs or parameters are not those of the model.
        """
        return self._answer(inputs, parameters, gone)


def load_model(config: ServingConfig) -> ServedModel:
    """Fetch, verify and load the bundle of a configuration.

    Raises:
        StoreRefused, DigestMismatch, ModelInvalid: as `read_bundle` and `load_predictor`; or the bundle has code, and nobody has
            consented to run it.
        UserCodeFailed: that code makes no network.
    """
    bundle = read_bundle(Store(config.model), config.digest)
    if isinstance(bundle.manifest.architecture, Custom) and config.remote_code is not RemoteCode.ALLOW:
        raise ModelInvalid(
            f"{config.model.uri} is a model of family Custom, whose code would run in the replicas: if you trust it, set "
            f"model.remoteCode to Allow and model.digest to {bundle.digest}, or name the job that made it in model.trainingJobRef"
        )
    if bundle.manifest.architecture.head == "NextToken":
        return ServedModel(config, bundle, continuing(config.engine, bundle))
    return ServedModel(config, bundle, Predicting(config.engine, bundle))
