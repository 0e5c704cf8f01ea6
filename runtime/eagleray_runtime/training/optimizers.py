"""Rules of the parameter updates, over the flat parameter vector."""

from typing import Protocol

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import OptimizerType

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Optimizer(Protocol):
    """Updates parameters in place from a gradient of the same shape [parameters]."""

    def step(self, theta: Floats, gradient: Floats) -> None:
        """Take one step; `gradient` may be used as scratch space."""
        ...

    def state(self) -> dict[str, Floats]:
        """Arrays that the next step depends on (copies are the caller's task)."""
        ...

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on from what `state` gave."""
        ...


class Descent:
    """theta <- theta - alpha * gradient: GradientDescent over all rows, SGD over mini-batches."""

    def __init__(self, learning_rate: float) -> None:
        self._rate = learning_rate

    def step(self, theta: Floats, gradient: Floats) -> None:
        """Take one step."""
        gradient *= self._rate
        theta -= gradient

    def state(self) -> dict[str, Floats]:
        """Nothing: a step depends on the gradient alone."""
        return {}

    def restore(self, state: dict[str, Floats]) -> None:
        """Nothing to restore."""


class Adam:
    """Adam, Kingma & Ba 2015, algorithm 1, with its default moments (0.9, 0.999) and epsilon 1e-8.

    m <- b1 m + (1-b1) g, v <- b2 v + (1-b2) g^2, theta <- theta - alpha (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps).
    """

    def __init__(self, learning_rate: float, parameters: int) -> None:
        self._rate = learning_rate
        self._first: Floats = np.zeros(parameters)
        self._second: Floats = np.zeros(parameters)
        self._scratch: Floats = np.empty(parameters)
        self._steps = 0

    def step(self, theta: Floats, gradient: Floats) -> None:
        """Take one step."""
        self._steps += 1
        first, second, scratch = self._first, self._second, self._scratch
        first *= BETA_1
        np.multiply(gradient, 1 - BETA_1, out=scratch)
        first += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - BETA_2
        second *= BETA_2
        second += scratch
        np.divide(second, 1 - BETA_2**self._steps, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += EPSILON
        np.divide(first, scratch, out=scratch)
        scratch *= self._rate / (1 - BETA_1**self._steps)
        theta -= scratch

    def state(self) -> dict[str, Floats]:
        """Both moments and the number of steps."""
        return {"first": self._first, "second": self._second, "steps": np.array([float(self._steps)])}

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on from what `state` gave."""
        self._first[...] = state["first"]
        self._second[...] = state["second"]
        self._steps = int(state["steps"][0])


def make(type_: OptimizerType, learning_rate: float, parameters: int) -> Optimizer:
    """The optimiser of a type that is already decided (not Auto)."""
    if type_ is OptimizerType.ADAM:
        return Adam(learning_rate, parameters)
    return Descent(learning_rate)
