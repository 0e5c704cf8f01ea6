"""Forward pass, losses and gradients by hand, in NumPy and float64."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture import Architecture


class Network:
    """Parameters in one flat vector, so that an optimiser's step is a few operations whatever the depth.

    `flat` is float64 [parameters]; `parameters` are views of it by name.
    """

    def __init__(self, architecture: Architecture, parameters: Mapping[str, AnyArray] | None = None) -> None:
        """Make a network with these parameters (copied), or with zeros.

        Raises:
            ValueError: a parameter is missing, unknown or of another shape.
        """
        self.architecture = architecture
        self.flat: Floats = np.zeros(architecture.parameters)
        self.parameters: dict[str, Floats] = {}
        start = 0
        for name, shape in architecture.shapes.items():
            end = start + int(np.prod(shape))
            self.parameters[name] = self.flat[start:end].reshape(shape)
            start = end
        self._weights = [self.parameters[f"layers.{index}.weight"] for index in range(architecture.depth)]
        self._biases = [self.parameters[f"layers.{index}.bias"] for index in range(architecture.depth)]
        if parameters is None:
            return
        if set(parameters) != set(self.parameters):
            raise ValueError(f"the parameters are {sorted(parameters)}, expected {sorted(self.parameters)}")
        for name, values in parameters.items():
            if values.shape != self.parameters[name].shape:
                raise ValueError(f"{name} has the shape {values.shape}, expected {self.parameters[name].shape}")
            self.parameters[name][...] = values

    def forward(self, x: Floats) -> Floats:
        """Outputs before the head, shape [rows, outputs], of `x` with shape [rows, inputs]."""
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = activate(self.architecture.activation, x @ weight.T + bias)
        return x @ self._weights[-1].T + self._biases[-1]

    def loss(self, x: Floats, y: AnyArray) -> float:
        """Mean loss of rows; `y` is float64 [rows] for the head Identity, class numbers int64 [rows] for Softmax."""
        return self._loss(self.forward(x), y)[0]

    def gradient(self, x: Floats, y: AnyArray, into: "Network") -> float:
        """Mean loss of rows as in `loss`; its gradient is written over the parameters of `into` (same architecture).

        Backpropagation: with delta the gradient by a layer's output before activation, the weight's gradient is
        delta^T a, the bias's the sum of delta over rows, and the delta of the layer below (delta W) * f'(a).
        """
        activation = self.architecture.activation
        layers = [x]
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            layers.append(activate(activation, layers[-1] @ weight.T + bias))
        loss, delta = self._loss(layers[-1] @ self._weights[-1].T + self._biases[-1], y)
        for index in range(len(layers) - 1, -1, -1):
            np.matmul(delta.T, layers[index], out=into._weights[index])
            np.sum(delta, axis=0, out=into._biases[index])
            if index:
                delta = (delta @ self._weights[index]) * slope(activation, layers[index])
        return loss

    def _loss(self, outputs: Floats, y: AnyArray) -> tuple[float, Floats]:
        """Mean loss, and its gradient by the outputs, shape [rows, outputs]."""
        if self.architecture.head == "Identity":
            return squared_error(outputs, y)
        return cross_entropy(outputs, y)


def activate(activation: Activation, z: Floats) -> Floats:
    """ReLU max(0, z), tanh z or sigmoid 1/(1 + e^-z); sigmoid by tanh, which does not overflow."""
    match activation:
        case Activation.RELU:
            return cast(Floats, np.maximum(z, 0.0))
        case Activation.TANH:
            return cast(Floats, np.tanh(z))
        case Activation.SIGMOID:
            return 0.5 * (1.0 + np.tanh(0.5 * z))


def slope(activation: Activation, a: Floats) -> Floats:
    """Derivative of an activation, by its own value `a`: (a > 0), 1 - a^2 or a (1 - a)."""
    match activation:
        case Activation.RELU:
            return (a > 0.0).astype(np.float64)
        case Activation.TANH:
            return 1.0 - a * a
        case Activation.SIGMOID:
            return a * (1.0 - a)


def squared_error(outputs: Floats, y: Floats) -> tuple[float, Floats]:
    """1/(2m) sum (h - y)^2 over m rows, and its gradient (h - y)/m; outputs are [rows, 1], y is [rows]."""
    error = outputs[:, 0] - y
    rows = len(y)
    return float(error @ error) / (2 * rows), (error / rows)[:, np.newaxis]


def log_softmax(outputs: Floats) -> Floats:
    """Logarithms of the class probabilities, shape [rows, classes]; the largest output is taken off first, so none overflows."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return cast(Floats, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def cross_entropy(outputs: Floats, y: AnyArray) -> tuple[float, Floats]:
    """Mean of -ln p(label) over m rows, and its gradient (p - onehot)/m."""
    logarithms = log_softmax(outputs)
    rows = np.arange(len(y))
    loss = -float(logarithms[rows, y].mean())
    delta = np.exp(logarithms)
    delta[rows, y] -= 1.0
    return loss, delta / len(y)
