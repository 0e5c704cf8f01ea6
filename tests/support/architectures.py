"""Small models of every sort, with losses that go with them and rows to learn from."""

from dataclasses import dataclass

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Activation, LossType
from eagleray_runtime.models.architecture import Dense
from eagleray_runtime.models.losses import Loss
from eagleray_runtime.models.network import Network

INPUTS, CLASSES = 3, 4
HEADS = {"Identity": 1, "Softmax": CLASSES, "Sigmoid": 1, "Argmax": CLASSES}
"""Number of outputs by head."""

LOSSES = {
    "squares": ("Identity", Loss(type=LossType.MEAN_SQUARED_ERROR)),
    "absolute errors": ("Identity", Loss(type=LossType.MEAN_ABSOLUTE_ERROR)),
    "Huber": ("Identity", Loss(type=LossType.HUBER, delta=0.7)),
    "cross-entropy": ("Softmax", Loss(type=LossType.CROSS_ENTROPY)),
    "smoothed cross-entropy": ("Softmax", Loss(type=LossType.CROSS_ENTROPY, label_smoothing=0.2)),
    "weighted cross-entropy": ("Softmax", Loss(type=LossType.CROSS_ENTROPY, class_weights=[0.5, 2.0, 1.0, 3.0])),
    "weighted and smoothed": (
        "Softmax",
        Loss(type=LossType.CROSS_ENTROPY, label_smoothing=0.1, class_weights=[0.5, 2.0, 1.0, 3.0]),
    ),
    "log-likelihood": ("Softmax", Loss(type=LossType.NEGATIVE_LOG_LIKELIHOOD)),
    "binary cross-entropy": ("Sigmoid", Loss(type=LossType.BINARY_CROSS_ENTROPY)),
    "weighted binary cross-entropy": ("Sigmoid", Loss(type=LossType.BINARY_CROSS_ENTROPY, class_weights=[0.6, 3.0])),
    "perceptron": ("Argmax", Loss(type=LossType.PERCEPTRON)),
}
"""Head and loss by name."""


@dataclass
class Case:
    """A model with a loss; `x` float64 [rows, 3], `y` as the loss takes it."""

    network: Network
    loss: Loss
    x: Floats
    y: AnyArray


def case(loss: str, hidden: tuple[int, ...] = (), activation: Activation = Activation.TANH, seed: int = 2) -> Case:
    """A model with random parameters, and nine rows."""
    head, told = LOSSES[loss]
    architecture = Dense.model_validate(
        {"inputs": INPUTS, "hidden": list(hidden), "outputs": HEADS[head], "activation": activation, "head": head}
    )
    random = np.random.default_rng(seed)
    network = Network(architecture)
    network.flat[...] = random.normal(size=network.flat.shape)
    classes = {"Softmax": CLASSES, "Argmax": CLASSES, "Sigmoid": 2}.get(head)
    y = random.integers(0, classes, 9) if classes else random.normal(size=9)
    return Case(network, told, random.normal(size=(9, INPUTS)), y)


EVERY_CASE = [
    *((loss, (), Activation.TANH) for loss in LOSSES),
    *((loss, (6, 5), Activation.TANH) for loss in LOSSES),
    *((loss, (6, 5), activation) for loss in ("squares", "cross-entropy") for activation in Activation),
]
"""Arguments of `case`: each loss without and with hidden layers, and each activation."""
