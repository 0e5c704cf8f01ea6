"""What an engine is to the server."""

from typing import Protocol

from eagleray_runtime.arrays import Floats
from eagleray_runtime.bundle.reading import Bundle
from eagleray_runtime.contract.blocks import Engine
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.serving.numpy_predictor import NumpyPredictor


class Predictor(Protocol):
    """Computes the model's outputs before the head."""

    @property
    def device(self) -> str:
        """Where it computes: cpu or cuda."""
        ...

    def __call__(self, x: Floats) -> Floats:
        """Outputs, float64 [rows, outputs], of prepared rows, float64 [rows, inputs]."""
        ...


def load_predictor(engine: Engine, bundle: Bundle) -> Predictor:
    """The predictor of an engine that is already decided (not Auto).

    Raises:
        ModelInvalid: the image does not hold the engine's library.
    """
    if engine is Engine.NUMPY:
        return NumpyPredictor(bundle.manifest.architecture, bundle.parameters)
    try:
        # Only here: the image of the NumPy engine holds no torch.
        from eagleray_runtime.serving.torch_predictor import TorchPredictor
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"the Torch engine needs {error.name}, which this image does not hold: "
            "set engine to NumPy or runtime.image to one with torch"
        ) from error
    return TorchPredictor(bundle.manifest.architecture, bundle.parameters)
