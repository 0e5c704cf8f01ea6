"""Numbers or classes of rows."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.bundle.manifest import IMAGE
from eagleray_runtime.bundle.reading import Bundle
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.data.preparation import Preparation
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.heads import class_numbers, log_probabilities
from eagleray_runtime.models.predictor import load_predictor
from eagleray_runtime.serving.inputs import Tensors, inputs_of
from eagleray_runtime.serving.tensors import BadTensorError


class Predicting:
    """What a bundle says of rows; the attributes are those of `model.Answering`."""

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._predict = load_predictor(engine, manifest.architecture, bundle.parameters)
        self._inputs = inputs_of(manifest.preparation, manifest.sequence, bundle.tokenizer)
        self._head = manifest.architecture.head
        self._preparation, self._target = manifest.preparation, manifest.preparation.target
        self._classes = np.array(manifest.classes, dtype=np.object_)
        self.device = self._predict.device
        self.files, self.about = self._inputs.files, self._inputs.about
        self.work = manifest.architecture.work + self._inputs.work
        self.byte_work = self._inputs.byte_work

    def __call__(self, inputs: Tensors, parameters: Mapping[str, Any], gone: threading.Event) -> dict[str, AnyArray]:
        """Outputs by name: `prediction` float64 [rows], or `label` object [rows] with `probabilities` float64 [rows, classes],
        which a perceptron has not: its `scores` take their place. There are no parameters.

        Raises:
            BadTensorError: the inputs are not those of the model, or numbers are too large for it.
            ModelInvalid: the answer is not finite, whatever the numbers.
        """
        prepared = self._inputs.prepared(inputs)
        results, numbers = self._results(self._predict(prepared))
        # Of a few numbers that is found in a third of the time that all() takes.
        if b"\0" in np.isfinite(numbers).tobytes():
            raise _not_finite(self._preparation, prepared)
        return results

    def _results(self, outputs: Floats) -> tuple[dict[str, AnyArray], Floats]:
        """Outputs by name, and those of them that are numbers."""
        if not len(self._classes):
            numbers = outputs[:, 0] * self._target.scale + self._target.offset
            return {"prediction": numbers}, numbers
        labels = self._classes[class_numbers(self._head, outputs)]
        if self._head == "Argmax":
            return {"label": labels, "scores": outputs}, outputs
        numbers = np.exp(log_probabilities(self._head, outputs))
        return {"label": labels, "probabilities": numbers}, numbers


def _not_finite(preparation: Preparation, prepared: AnyArray) -> BadTensorError | ModelInvalid:
    """Why the answer to prepared rows is not finite."""
    name = _farthest(preparation, prepared)
    if name is None:
        return ModelInvalid(
            "the model's answer is not finite, and no number of the request can be why: train again at a lower learning rate"
        )
    return BadTensorError(
        f"the model's answer is not finite: of its inputs {name} holds the number that is farthest from those of training: "
        "send numbers like those"
    )


def _farthest(preparation: Preparation, prepared: AnyArray) -> str | None:
    """The input with the number that is farthest out, None where the inputs hold none or only those of pictures."""
    if preparation.images is not None:
        return IMAGE if preparation.images.form == "Numbers" else None
    names = [column.name for column in preparation.numeric]
    if not names:
        return None
    numbers = np.abs(prepared[..., : len(names)]).reshape(-1, len(names))
    return names[int(numbers.max(axis=0).argmax())]
