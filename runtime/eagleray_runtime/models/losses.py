"""Losses and their gradients by hand, in NumPy and float64; `torch_losses` has the same in torch."""

from typing import Any, cast

import numpy as np
from pydantic import Field

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Block, LossType


class Loss(Block):
    """A loss with everything decided.

    `type` is never Auto. `delta` is in the unit of the scaled target. `class_weights` are what a row of each class counts, by
    class number; none means 1 each. With `of_tokens` the mean is over tokens instead of rows: outputs are those of head
    NextToken, and `y` int64 [rows] says how many tokens of each row there are to foresee.
    """

    type: LossType
    delta: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: list[float] = Field(default_factory=list)
    of_tokens: bool = False

    def amount(self, y: Any) -> int:
        """What the mean over rows with this `y` (array or tensor) is the mean over: their number, or that of their tokens."""
        return int(y.sum()) if self.of_tokens else len(y)

    def unit(self, scale: float) -> float:
        """What turns a loss of targets scaled by `scale` into the target's own unit."""
        return scale if self.type is LossType.MEAN_ABSOLUTE_ERROR else scale**2

    def mean(self, outputs: Floats, y: AnyArray) -> tuple[float, Floats]:
        """Mean loss of m rows, and its gradient by the outputs.

        Args:
            outputs: float64 [rows, outputs], before the model's head.
            y: float64 [rows] (scaled target) for regression, int64 [rows] (class numbers) for classification.

        Returns:
            the loss, and its gradient float64 [rows, outputs].
        """
        if self.of_tokens:
            tokens = self.amount(y)
            return -float(outputs.sum()) / tokens, -(outputs != 0).astype(np.float64) / tokens
        match self.type:
            case LossType.MEAN_SQUARED_ERROR | LossType.MEAN_ABSOLUTE_ERROR | LossType.HUBER:
                error = outputs[:, 0] - y
                losses, slopes = self._of_errors(error)
                return float(losses.mean()), (slopes / len(y))[:, np.newaxis]
            case LossType.BINARY_CROSS_ENTROPY:
                return self._binary_cross_entropy(outputs[:, 0], y)
            case LossType.PERCEPTRON:
                return _perceptron(outputs, y)
            case _:
                return self._cross_entropy(outputs, y)

    def _of_errors(self, error: Floats) -> tuple[Floats, Floats]:
        """Loss of each error h - y, and its slope: e^2/2, |e|, or Huber's (1964) of both."""
        if self.type is LossType.MEAN_SQUARED_ERROR:
            return 0.5 * error * error, error
        size = np.abs(error)
        if self.type is LossType.MEAN_ABSOLUTE_ERROR:
            return size, np.sign(error)
        small = size <= self.delta
        loss = np.where(small, 0.5 * error * error, self.delta * (size - 0.5 * self.delta))
        return loss, np.clip(error, -self.delta, self.delta)

    def _binary_cross_entropy(self, z: Floats, y: AnyArray) -> tuple[float, Floats]:
        """-ln p(label) with p(1) = sigmoid(z): ln(1 + e^z) - y z, whose slope is sigmoid(z) - y."""
        weights = self._weights(y)
        loss = weights * (np.logaddexp(0.0, z) - y * z)
        slope = weights * (np.exp(-np.logaddexp(0.0, -z)) - y)
        return float(loss.mean()), (slope / len(y))[:, np.newaxis]

    def _cross_entropy(self, outputs: Floats, y: AnyArray) -> tuple[float, Floats]:
        """-sum_c t_c ln p_c, whose gradient is (sum_c t_c) p - t.

        t is w_label at the label; smoothing (Szegedy et al. 2016, section 7) moves a share e of it: (1 - e) w_label at the
        label and e w_c / classes everywhere, which is how torch weighs it.
        """
        logarithms = log_softmax(outputs)
        rows = np.arange(len(y))
        if not self.class_weights and not self.label_smoothing:
            delta = np.exp(logarithms)
            delta[rows, y] -= 1.0
            return -float(logarithms[rows, y].mean()), delta / len(y)
        weights = np.array(self.class_weights or [1.0] * outputs.shape[1])
        wanted = np.tile(self.label_smoothing / outputs.shape[1] * weights, (len(y), 1))
        wanted[rows, y] += (1.0 - self.label_smoothing) * weights[y]
        delta = wanted.sum(axis=1, keepdims=True) * np.exp(logarithms) - wanted
        return -float((wanted * logarithms).sum(axis=1).mean()), delta / len(y)

    def _weights(self, y: AnyArray) -> AnyArray:
        return np.array(self.class_weights)[y] if self.class_weights else np.ones(len(y))


def _perceptron(outputs: Floats, y: AnyArray) -> tuple[float, Floats]:
    """max_c h_c - h_label: a wrong row moves its label's weights to it and the winner's from it (Rosenblatt 1958)."""
    rows = np.arange(len(y))
    winner = outputs.argmax(axis=1)
    loss = outputs[rows, winner] - outputs[rows, y]
    delta = np.zeros_like(outputs)
    delta[rows, winner] += 1.0
    delta[rows, y] -= 1.0
    return float(loss.mean()), delta / len(y)


def log_softmax(outputs: Floats) -> Floats:
    """Logarithms of the class probabilities, shape [rows, classes]; the largest output is taken off first, so none overflows."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return cast(Floats, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def balanced(counts: AnyArray) -> list[float]:
    """What a row of each class counts, by how many rows of each there are: rows / (classes * rows of its class), as in King and
    Zeng 2001."""
    return [float(weight) for weight in counts.sum() / (len(counts) * counts.clip(min=1))]
