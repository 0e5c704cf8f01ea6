"""One loaded bundle: tensors in, tensors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats, Texts
from eagleray_runtime.bundle.reading import Bundle, read_bundle
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.data.encoding import MissingValueError
from eagleray_runtime.data.preparation import Transform
from eagleray_runtime.models.heads import class_numbers, log_probabilities
from eagleray_runtime.serving.predictor import Predictor, load_predictor
from eagleray_runtime.serving.tensors import BadTensorError, Tensor
from eagleray_runtime.storage import Store

FEATURES = "features"


class ServedModel:
    """A verified bundle with the engine that computes it."""

    def __init__(self, config: ServingConfig, bundle: Bundle, predictor: Predictor) -> None:
        manifest = bundle.manifest
        self.name = config.name
        self.version = config.revision
        self.example = manifest.example
        self.work = manifest.architecture.parameters
        self._predict = predictor
        self._transform = Transform(manifest.preparation)
        self._head = manifest.architecture.head
        self._target = manifest.preparation.target
        self._classes = np.array(manifest.classes, dtype=np.object_)
        self._columns = [column.name for column in manifest.preparation.columns]
        self._numeric = self._transform.numeric_names
        self._categorical = frozenset(self._transform.categorical_names)
        self._width = len(self._columns)
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
            },
        }

    def infer(self, inputs: Sequence[Tensor]) -> dict[str, AnyArray]:
        """Outputs by name: `prediction` float64 [rows], or `label` object [rows] with `probabilities` float64 [rows, classes],
        which a perceptron has not: its `scores` take their place.

        Raises:
            BadTensorError: the inputs are not those of the model.
        """
        numbers, texts = self._rows(inputs)
        if not np.isfinite(numbers).all() and np.isinf(numbers).any():
            raise BadTensorError("an input holds infinity: send a number, or null where a value is missing")
        try:
            outputs = self._predict(self._transform(numbers, texts))
        except MissingValueError as error:
            raise BadTensorError(str(error)) from error
        if not len(self._classes):
            return {"prediction": outputs[:, 0] * self._target.scale + self._target.offset}
        labels = self._classes[class_numbers(self._head, outputs)]
        if self._head == "Argmax":
            return {"label": labels, "scores": outputs}
        return {"label": labels, "probabilities": np.exp(log_probabilities(self._head, outputs))}

    def _rows(self, inputs: Sequence[Tensor]) -> tuple[Floats, dict[str, Texts]]:
        """Numeric columns as one matrix, categorical ones by name."""
        if len(inputs) == 1 and inputs[0].name == FEATURES and not self._categorical and self._columns != [FEATURES]:
            values = inputs[0].values
            if values.ndim != 2 or values.shape[1] != self._width:
                raise BadTensorError(
                    f"input {FEATURES}: the shape is {list(values.shape)}, expected [-1, {self._width}], "
                    f"the columns {', '.join(self._columns)}"
                )
            if values.dtype != np.float64:
                raise BadTensorError(f"input {FEATURES}: the datatype is BYTES, expected a number")
            return values, {}
        return self._by_column(inputs)

    def _by_column(self, inputs: Sequence[Tensor]) -> tuple[Floats, dict[str, Texts]]:
        columns: dict[str, AnyArray] = {}
        rows: int | None = None
        for tensor in inputs:
            name, values = tensor.name, tensor.values
            if name not in self._columns:
                raise BadTensorError(f"input {name} is not one of the model: it takes {self._expected()}")
            if name in columns:
                raise BadTensorError(f"input {name} is given twice")
            if (values.dtype == np.object_) is not (name in self._categorical):
                raise BadTensorError(f"input {name}: expected {'BYTES' if name in self._categorical else 'a number'}")
            if values.ndim == 2 and values.shape[1] == 1:
                values = values[:, 0]
            if values.ndim != 1:
                raise BadTensorError(f"input {name}: the shape is {list(values.shape)}, expected [-1]")
            if rows not in (None, len(values)):
                raise BadTensorError(f"input {name} has {len(values)} rows, the inputs before it {rows}")
            columns[name], rows = values, len(values)
        missing = [name for name in self._columns if name not in columns]
        if missing:
            raise BadTensorError(f"inputs missing: {', '.join(missing)}: the model takes {self._expected()}")
        numbers = np.empty((rows or 0, len(self._numeric)))
        for index, name in enumerate(self._numeric):
            numbers[:, index] = columns[name]
        return numbers, {name: columns[name] for name in self._categorical}

    def _expected(self) -> str:
        by_column = ", ".join(self._columns)
        return by_column if self._categorical else f"{FEATURES} [-1, {self._width}] or a tensor for each of {by_column}"


def load_model(config: ServingConfig) -> ServedModel:
    """Fetch, verify and load the bundle of a configuration.

    Raises:
        StoreRefused, DigestMismatch, ModelInvalid: as `read_bundle` and `load_predictor`.
    """
    bundle = read_bundle(Store(config.model), config.digest)
    return ServedModel(config, bundle, load_predictor(config.engine, bundle))
