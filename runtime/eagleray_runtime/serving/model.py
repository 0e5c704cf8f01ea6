"""One loaded bundle: tensors in, tensors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.reading import Bundle, read_bundle
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.models.heads import class_numbers, log_probabilities
from eagleray_runtime.models.predictor import Predictor, load_predictor
from eagleray_runtime.serving.inputs import inputs_of
from eagleray_runtime.serving.tensors import Tensor
from eagleray_runtime.storage import Store


class ServedModel:
    """A verified bundle with the engine that computes it; `files` are the inputs that hold files instead of text.

    `work` is about how many multiplications a row takes.
    """

    def __init__(self, config: ServingConfig, bundle: Bundle, predictor: Predictor) -> None:
        manifest = bundle.manifest
        self.name = config.name
        self.version = config.revision
        self.example = manifest.example
        self._predict = predictor
        self._inputs = inputs_of(manifest.preparation, manifest.sequence)
        self.files = self._inputs.files
        self.work = manifest.architecture.work + self._inputs.work
        self._head = manifest.architecture.head
        self._target = manifest.preparation.target
        self._classes = np.array(manifest.classes, dtype=np.object_)
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
                "device": predictor.device,
                **self._inputs.about,
            },
        }

    def infer(self, inputs: Sequence[Tensor]) -> dict[str, AnyArray]:
        """Outputs by name: `prediction` float64 [rows], or `label` object [rows] with `probabilities` float64 [rows, classes],
        which a perceptron has not: its `scores` take their place.

        Raises:
            BadTensorError: the inputs are not those of the model.
        """
        outputs = self._predict(self._inputs.prepared(inputs))
        if not len(self._classes):
            return {"prediction": outputs[:, 0] * self._target.scale + self._target.offset}
        labels = self._classes[class_numbers(self._head, outputs)]
        if self._head == "Argmax":
            return {"label": labels, "scores": outputs}
        return {"label": labels, "probabilities": np.exp(log_probabilities(self._head, outputs))}


def load_model(config: ServingConfig) -> ServedModel:
    """Fetch, verify and load the bundle of a configuration.

    Raises:
        StoreRefused, DigestMismatch, ModelInvalid: as `read_bundle` and `load_predictor`.
    """
    bundle = read_bundle(Store(config.model), config.digest)
    return ServedModel(config, bundle, load_predictor(config.engine, bundle.manifest.architecture, bundle.parameters))
