"""The NumPy engine of a finished model."""

from collections.abc import Mapping

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.network import Network


class NumpyPredictor:
    """Computes in float64 whatever the weights are stored in."""

    device = "cpu"

    def __init__(self, architecture: Dense, parameters: Mapping[str, AnyArray]) -> None:
        self._network = Network(architecture, parameters)

    def __call__(self, x: Floats) -> Floats:
        """Outputs before the head, float64 [rows, outputs]."""
        return self._network.forward(x)
