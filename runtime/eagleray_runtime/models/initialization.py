"""Seeded first parameters, drawn by NumPy for both engines, so that they start alike."""

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import Activation
from eagleray_runtime.models.architecture import Architecture

STREAM = 0
"""First word after the seed that keeps these random numbers apart from those of the row order."""


def method(architecture: Architecture) -> tuple[str, str]:
    """Name of the method for an architecture, and why it is the one."""
    if not architecture.hidden:
        return "Zeros", "the loss of a model without hidden layers is convex: any start leads to the same end"
    if architecture.activation is Activation.RELU:
        return "HeNormal", "keeps the variance through ReLU layers"
    return "XavierUniform", f"keeps the variance through {architecture.activation} layers"


def initial_parameters(architecture: Architecture, seed: int) -> dict[str, Floats]:
    """Parameters by name, float64; biases are zero.

    He et al. 2015: normal with variance 2/inputs. Glorot and Bengio 2010: uniform within sqrt(6/(inputs + outputs)), which
    is also used for the last layer, after which no ReLU halves the variance.
    """
    random = np.random.default_rng([seed, STREAM])
    chosen, _ = method(architecture)
    parameters: dict[str, Floats] = {}
    for name, shape in architecture.shapes.items():
        if chosen == "Zeros" or name.endswith("bias"):
            parameters[name] = np.zeros(shape)
            continue
        outputs, inputs = shape
        last = name == f"layers.{architecture.depth - 1}.weight"
        if chosen == "HeNormal" and not last:
            parameters[name] = random.normal(0.0, np.sqrt(2 / inputs), shape)
        else:
            bound = np.sqrt(6 / (inputs + outputs))
            parameters[name] = random.uniform(-bound, bound, shape)
    return parameters
