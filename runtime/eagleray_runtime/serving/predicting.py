"""Numbers or classes of rows."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.reading import Bundle
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.models.heads import class_numbers, log_probabilities
from eagleray_runtime.models.predictor import load_predictor
from eagleray_runtime.serving.inputs import Tensors, inputs_of


class Predicting:
    """What a bundle says of rows; the attributes are those of `model.Answering`."""

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._predict = load_predictor(engine, manifest.architecture, bundle.parameters)
        self._inputs = inputs_of(manifest.preparation, manifest.sequence, bundle.tokenizer)
        self._head = manifest.architecture.head
        self._target = manifest.preparation.target
        self._classes = np.array(manifest.classes, dtype=np.object_)
        self.device = self._predict.device
        self.files, self.about = self._inputs.files, self._inputs.about
        self.work = manifest.architecture.work + self._inputs.work
        self.byte_work = self._inputs.byte_work

    def __call__(self, inputs: Tensors, parameters: Mapping[str, Any], gone: threading.Event) -> dict[str, AnyArray]:
        """Outputs by name: `prediction` float64 [rows], or `label` object [rows] with `probabilities` float64 [rows, classes],
        which a perceptron has not: its `scores` take their place. There are no parameters, and
        nothing stops on the way.

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
