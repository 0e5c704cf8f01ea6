"""Forward pass and gradients by hand, in NumPy and float64."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.losses import Loss

LEAK = 0.01
"""Slope of LeakyReLU below zero, as in torch."""

GELU_CUBE, GELU_ROOT = 0.044715, np.sqrt(2 / np.pi)


class Network:
    """Parameters in one flat vector, so that an optimiser's step is a few operations whatever the depth.

    `flat` is float64 [parameters]; `parameters` are views of it by name.
    """

    def __init__(self, architecture: Dense, parameters: Mapping[str, AnyArray] | None = None) -> None:
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
        """Outputs before the head, shape [rows, outputs], of `x` with shape [rows, inputs]; no unit is dropped."""
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = activate(self.architecture.activation, x @ weight.T + bias)
        return x @ self._weights[-1].T + self._biases[-1]

    def gradient(self, loss: Loss, x: Floats, y: AnyArray, into: "Network", dropout: np.random.Generator | None = None) -> float:
        """Mean loss of rows (arguments as in `Loss.mean`); its gradient is written over the parameters of `into`.

        Backpropagation: with delta the gradient by a layer's output before activation, the weight's gradient is
        delta^T a, the bias's the sum of delta over rows, and the delta of the layer below (delta W) * f'(z).

        Units are dropped as `dropout` draws them; the others are scaled up by 1/(1 - share), so that `forward` needs no
        scaling (Srivastava et al. 2014, section 10).
        """
        activation, share = self.architecture.activation, self.architecture.dropout
        inputs, slopes = [x], []
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            z = inputs[-1] @ weight.T + bias
            a = activate(activation, z)
            f = slope(activation, z, a)
            if share and dropout is not None:
                kept = (dropout.random(a.shape) >= share) / (1.0 - share)
                a, f = a * kept, f * kept
            inputs.append(a)
            slopes.append(f)
        mean, delta = loss.mean(inputs[-1] @ self._weights[-1].T + self._biases[-1], y)
        for index in range(len(inputs) - 1, -1, -1):
            np.matmul(delta.T, inputs[index], out=into._weights[index])
            np.sum(delta, axis=0, out=into._biases[index])
            if index:
                delta = (delta @ self._weights[index]) * slopes[index - 1]
        return mean


def activate(activation: Activation, z: Floats) -> Floats:
    """Value of an activation; the sigmoid is by tanh, which does not overflow.

    GELU is z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) (Hendrycks and Gimpel 2016, section 2), SiLU z sigmoid(z).
    """
    match activation:
        case Activation.RELU:
            return cast(Floats, np.maximum(z, 0.0))
        case Activation.TANH:
            return cast(Floats, np.tanh(z))
        case Activation.SIGMOID:
            return _sigmoid(z)
        case Activation.GELU:
            return 0.5 * z * (1.0 + np.tanh(_gelu_argument(z)))
        case Activation.SILU:
            return z * _sigmoid(z)
        case Activation.LEAKY_RELU:
            return np.where(z > 0.0, z, LEAK * z)


def slope(activation: Activation, z: Floats, a: Floats) -> Floats:
    """Derivative of an activation at `z`, where its value is `a`."""
    match activation:
        case Activation.RELU:
            return (a > 0.0).astype(np.float64)
        case Activation.TANH:
            return 1.0 - a * a
        case Activation.SIGMOID:
            return a * (1.0 - a)
        case Activation.GELU:
            t = np.tanh(_gelu_argument(z))
            inner = GELU_ROOT * (1.0 + 3.0 * GELU_CUBE * z * z)
            return cast(Floats, 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * inner)
        case Activation.SILU:
            s = _sigmoid(z)
            return s + a * (1.0 - s)
        case Activation.LEAKY_RELU:
            return np.where(z > 0.0, 1.0, LEAK)


def _sigmoid(z: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _gelu_argument(z: Floats) -> Floats:
    return cast(Floats, GELU_ROOT * (z + GELU_CUBE * z * z * z))
