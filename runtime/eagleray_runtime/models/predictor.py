"""What computes a finished model's outputs: in serving, and to evaluate it."""

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture import Architecture, Dense, Pretrained, Transformer, dense
from eagleray_runtime.models.numpy_predictor import NumpyPredictor


class Predictor(Protocol):
    """Computes the model's outputs before the head."""

    @property
    def device(self) -> str:
        """Where it computes: cpu or cuda."""
        ...

    def __call__(self, x: AnyArray) -> Floats:
        """Outputs, float64 [rows, outputs], of prepared rows [rows, ...] as the architecture takes them."""
        ...


class Writer(Protocol):
    """Goes on with a text."""

    @property
    def device(self) -> str:
        """Where it computes: cpu or cuda."""
        ...

    def __call__(self, text: Sequence[int], most: int, temperature: float, seed: int, gone: threading.Event) -> list[int]:
        """At most so many tokens after those of a text, up to its end; at temperature 0 the likeliest, else drawn by the seed.

        No more tokens follow once `gone` is set.
        """
        ...


def load_predictor(engine: Engine, architecture: Architecture, parameters: Mapping[str, AnyArray]) -> Predictor:
    """The predictor of an engine that is already decided (not Auto), of these parameters and buffers by name.

    Raises:
        ModelInvalid: the image does not hold the engine's library, or the engine has no such architecture.
    """
    if engine is Engine.NUMPY:
        return NumpyPredictor(dense(architecture), parameters)
    try:
        # Only here: the image of the NumPy engine holds no torch.
        from eagleray_runtime.models.torch_predictor import TorchPredictor
    except ModuleNotFoundError as error:
        raise _without_torch(error) from error
    return TorchPredictor(architecture, parameters)


def load_writer(engine: Engine, architecture: Architecture, parameters: Mapping[str, AnyArray], ends: Sequence[int]) -> Writer:
    """What goes on with texts, up to one of the tokens `ends`, by a decoder of these parameters and a decided engine.

    Raises:
        ModelInvalid: the image does not hold torch, or the engine or the architecture is another one.
    """
    if engine is Engine.NUMPY:
        dense(architecture)
    if not isinstance(architecture, Transformer | Pretrained):
        raise ModelInvalid(f"a model of kind {architecture.kind} does not go on with texts")
    try:
        from eagleray_runtime.models.torch_writer import TorchWriter
    except ModuleNotFoundError as error:
        raise _without_torch(error) from error
    return TorchWriter(architecture, parameters, ends)


def _without_torch(error: ModuleNotFoundError) -> ModelInvalid:
    return ModelInvalid(
        f"the Torch engine needs {error.name}, which this image does not hold: "
        "set engine to NumPy or runtime.image to one with torch"
    )


def evaluating(architecture: Architecture, parameters: Mapping[str, AnyArray]) -> Predictor:
    """What evaluates a model: NumPy in float64 what it can compute, whichever engine trained it; torch the rest.

    Raises:
        ModelInvalid: as `load_predictor`.
    """
    return load_predictor(Engine.NUMPY if isinstance(architecture, Dense) else Engine.TORCH, architecture, parameters)
