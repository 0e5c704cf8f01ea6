"""Seeded first parameters, drawn by NumPy for both engines, so that they start alike."""

import math
from typing import cast

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import Activation, Initialization, InitializationMethod
from eagleray_runtime.models.architecture import Architecture, Transformer

STREAM = 0
"""First word after the seed that keeps these random numbers apart from those of the row order."""

UNSET_SCALE = {InitializationMethod.NORMAL: 0.01, InitializationMethod.UNIFORM: 0.05}


def decide(architecture: Architecture) -> tuple[InitializationMethod, str]:
    """The method for an architecture where the spec says Auto, and why it is the one."""
    activation = architecture.nonlinearity
    if isinstance(architecture, Transformer):
        return InitializationMethod.XAVIER_UNIFORM, "keeps the variance through attention, which has no ReLU"
    if activation is None:
        reason = "the loss of a model without hidden layers is convex: any start leads to the same end"
        return InitializationMethod.ZEROS, reason
    if activation in (Activation.TANH, Activation.SIGMOID):
        return InitializationMethod.XAVIER_UNIFORM, f"keeps the variance through {activation} layers"
    return InitializationMethod.HE_NORMAL, f"keeps the variance through {activation} layers"


def initial_parameters(architecture: Architecture, initialization: Initialization, seed: int) -> dict[str, Floats]:
    """Parameters and buffers by name, float64. The method must be decided (not Auto).

    Weights of two dimensions and more are drawn, those of tables as if they were square, for a token looks up one row; biases
    are zero, scales and variances of a normalisation one. The last weight is drawn by Xavier where the others are by He, for no
    ReLU follows that would halve the variance.
    """
    random = np.random.default_rng([seed, STREAM])
    parameters: dict[str, Floats] = {}
    for name, shape in (architecture.shapes | architecture.buffers).items():
        method = initialization.method
        if len(shape) < 2:
            parameters[name] = np.full(shape, 1.0 if name.endswith(("weight", "running_var")) else 0.0)
            continue
        if name == architecture.last:
            method = AFTER_NO_RELU.get(method, method)
        scale = UNSET_SCALE.get(method, 1.0) if initialization.scale is None else initialization.scale
        gates = architecture.gates(name)
        matrix = (shape[0] // gates, *shape[1:])
        fans = matrix[1:] * 2 if name in architecture.tables else _fans(matrix)
        parameters[name] = scale * np.concatenate([_drawn(method, matrix, fans, random) for _ in range(gates)])
    return parameters


AFTER_NO_RELU = {
    InitializationMethod.HE_NORMAL: InitializationMethod.XAVIER_UNIFORM,
    InitializationMethod.HE_UNIFORM: InitializationMethod.XAVIER_UNIFORM,
}


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a weight [outputs, inputs, ...]; a kernel's pixels count as so many, as in torch."""
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _drawn(method: InitializationMethod, shape: tuple[int, ...], fans: tuple[int, ...], random: np.random.Generator) -> Floats:
    """A weight [outputs, inputs, ...] of scale 1, with `fans` (inputs, outputs) of each of its units.

    Glorot and Bengio 2010: variance 2/(inputs + outputs). He et al. 2015: variance 2/inputs. Uniform ones within the root of
    three times the variance. Saxe et al. 2014: orthonormal rows or columns of the matrix [outputs, inputs * pixels], whichever
    are fewer.
    """
    inputs, outputs = fans
    xavier, he = 2 / (inputs + outputs), 2 / inputs
    match method:
        case InitializationMethod.NORMAL:
            return random.normal(size=shape)
        case InitializationMethod.UNIFORM:
            return random.uniform(-1.0, 1.0, shape)
        case InitializationMethod.XAVIER_NORMAL:
            return random.normal(0.0, np.sqrt(xavier), shape)
        case InitializationMethod.XAVIER_UNIFORM:
            return random.uniform(-np.sqrt(3 * xavier), np.sqrt(3 * xavier), shape)
        case InitializationMethod.HE_NORMAL:
            return random.normal(0.0, np.sqrt(he), shape)
        case InitializationMethod.HE_UNIFORM:
            return random.uniform(-np.sqrt(3 * he), np.sqrt(3 * he), shape)
        case InitializationMethod.ORTHOGONAL:
            # The signs make the draw uniform over all orthogonal matrices (Mezzadri 2007).
            matrix = (shape[0], math.prod(shape[1:]))
            q, r = np.linalg.qr(random.normal(size=(max(matrix), min(matrix))))
            q *= np.sign(np.diag(r))
            return cast(Floats, (q if matrix[0] >= matrix[1] else q.T).reshape(shape))
        case _:
            return np.zeros(shape)
