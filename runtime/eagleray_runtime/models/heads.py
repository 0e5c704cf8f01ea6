"""What a model's outputs mean: numbers, classes with their probabilities, or classes alone."""

from typing import Literal, cast

import numpy as np

from eagleray_runtime.arrays import Floats, Integers
from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.models.losses import log_softmax

Head = Literal["Identity", "Softmax", "Sigmoid", "Argmax", "NextToken"]
"""Identity gives numbers (regression); Softmax the probabilities of classes, an output each; Sigmoid those of two classes by
one output; Argmax the class of the largest output, without probabilities; NextToken the logarithm of the probability of each
token of a text after those before it, 0 where there is no token."""


def head_of(classes: int, loss: LossType) -> tuple[Head, int]:
    """Head and number of outputs for classes (0 for regression), trained on a loss."""
    if loss is LossType.PERCEPTRON:
        return "Argmax", classes
    if loss is LossType.BINARY_CROSS_ENTROPY:
        return "Sigmoid", 1
    return ("Softmax", classes) if classes else ("Identity", 1)


def class_numbers(head: Head, outputs: Floats) -> Integers:
    """The likeliest class of each row, int64 [rows], of outputs before the head [rows, outputs]."""
    if head == "Sigmoid":
        return (outputs[:, 0] > 0).astype(np.int64)
    return cast(Integers, outputs.argmax(axis=1))


def log_probabilities(head: Head, outputs: Floats) -> Floats:
    """Logarithms of the classes' probabilities, float64 [rows, classes], for a head that has any."""
    if head == "Sigmoid":
        z = outputs[:, 0]
        return -np.stack([np.logaddexp(0.0, z), np.logaddexp(0.0, -z)], axis=1)
    return log_softmax(outputs)
