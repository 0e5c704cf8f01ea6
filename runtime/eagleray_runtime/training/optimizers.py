"""Rules of the parameter updates, over the flat parameter vector; each step is that of torch's optimiser of the same name."""

from typing import Protocol

import numpy as np

from eagleray_runtime.arrays import Floats
from eagleray_runtime.contract.blocks import Block, OptimizerType

RMS_DECAY = 0.99
"""Decay of RMSprop's mean of squared gradients (torch's `alpha`)."""


class Rule(Block):
    """An optimiser with everything decided; `type` is never Auto, and what it has no use for is at its default."""

    type: OptimizerType
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


class Optimizer(Protocol):
    """Updates parameters in place from a gradient of the same shape [parameters]."""

    def step(self, theta: Floats, gradient: Floats, rate: float) -> None:
        """Take one step of this learning rate; `gradient` may be used as scratch space."""
        ...

    def state(self) -> dict[str, Floats]:
        """Arrays that the next step depends on (copies are the caller's task)."""
        ...

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on from what `state` gave."""
        ...


class _Stateful:
    """State as named arrays, all zero at first."""

    def __init__(self, rule: Rule, parameters: int, *names: str) -> None:
        self._rule = rule
        self._arrays: dict[str, Floats] = {name: np.zeros(parameters) for name in names}
        self._scratch: Floats = np.empty(parameters)
        self._arrays["steps"] = np.zeros(1)

    def state(self) -> dict[str, Floats]:
        """The arrays, and the number of steps."""
        return self._arrays

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on from what `state` gave."""
        for name, values in state.items():
            self._arrays[name][...] = values

    def _decayed(self, theta: Floats, gradient: Floats) -> None:
        """Count the step; pull to zero through the gradient: g <- g + weight_decay * theta."""
        self._arrays["steps"] += 1
        if self._rule.weight_decay:
            np.multiply(theta, self._rule.weight_decay, out=self._scratch)
            gradient += self._scratch


class Descent(_Stateful):
    """GradientDescent over all rows, SGD over mini-batches: theta <- theta - alpha * g.

    With momentum mu, v <- mu v + g (v is g in the first step) takes the place of g, or g + mu v with Nesterov's look ahead
    (Sutskever et al. 2013, in torch's form).
    """

    def __init__(self, rule: Rule, parameters: int) -> None:
        super().__init__(rule, parameters, *(["velocity"] if rule.momentum else []))

    def step(self, theta: Floats, gradient: Floats, rate: float) -> None:
        """Take one step."""
        self._decayed(theta, gradient)
        if self._rule.momentum:
            velocity = self._arrays["velocity"]
            velocity *= self._rule.momentum
            velocity += gradient
            if self._rule.nesterov:
                np.multiply(velocity, self._rule.momentum, out=self._scratch)
                gradient += self._scratch
            else:
                gradient[...] = velocity
        gradient *= rate
        theta -= gradient


class Adam(_Stateful):
    """Adam, Kingma & Ba 2015, algorithm 1; AdamW, Loshchilov & Hutter 2019, algorithm 2.

    m <- b1 m + (1-b1) g, v <- b2 v + (1-b2) g^2, theta <- theta - alpha (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps); AdamW takes
    alpha * weight_decay * theta off theta before that, Adam adds weight_decay * theta to g.
    """

    def __init__(self, rule: Rule, parameters: int) -> None:
        super().__init__(rule, parameters, "first", "second")

    def step(self, theta: Floats, gradient: Floats, rate: float) -> None:
        """Take one step."""
        rule, scratch = self._rule, self._scratch
        first, second = self._arrays["first"], self._arrays["second"]
        if rule.type is OptimizerType.ADAM_W:
            self._arrays["steps"] += 1
            theta *= 1 - rate * rule.weight_decay
        else:
            self._decayed(theta, gradient)
        steps = float(self._arrays["steps"][0])
        first *= rule.beta1
        np.multiply(gradient, 1 - rule.beta1, out=scratch)
        first += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - rule.beta2
        second *= rule.beta2
        second += scratch
        np.divide(second, 1 - rule.beta2**steps, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += rule.epsilon
        np.divide(first, scratch, out=scratch)
        scratch *= rate / (1 - rule.beta1**steps)
        theta -= scratch


class RMSprop(_Stateful):
    """RMSprop (Hinton 2012, lecture 6e): v <- 0.99 v + 0.01 g^2, theta <- theta - alpha g / (sqrt(v) + eps); with momentum mu
    the quotient is gathered in b <- mu b + g / (sqrt(v) + eps) first."""

    def __init__(self, rule: Rule, parameters: int) -> None:
        super().__init__(rule, parameters, "second", *(["velocity"] if rule.momentum else []))

    def step(self, theta: Floats, gradient: Floats, rate: float) -> None:
        """Take one step."""
        self._decayed(theta, gradient)
        scratch, second = self._scratch, self._arrays["second"]
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - RMS_DECAY
        second *= RMS_DECAY
        second += scratch
        np.sqrt(second, out=scratch)
        scratch += self._rule.epsilon
        np.divide(gradient, scratch, out=gradient)
        if self._rule.momentum:
            velocity = self._arrays["velocity"]
            velocity *= self._rule.momentum
            velocity += gradient
            gradient[...] = velocity
        gradient *= rate
        theta -= gradient


class Adagrad(_Stateful):
    """Adagrad, Duchi et al. 2011: s <- s + g^2, theta <- theta - alpha g / (sqrt(s) + eps)."""

    def __init__(self, rule: Rule, parameters: int) -> None:
        super().__init__(rule, parameters, "sum")

    def step(self, theta: Floats, gradient: Floats, rate: float) -> None:
        """Take one step."""
        self._decayed(theta, gradient)
        scratch, total = self._scratch, self._arrays["sum"]
        np.multiply(gradient, gradient, out=scratch)
        total += scratch
        np.sqrt(total, out=scratch)
        scratch += self._rule.epsilon
        gradient *= rate
        gradient /= scratch
        theta -= gradient


def make(rule: Rule, parameters: int) -> Optimizer:
    """The optimiser of a rule for so many parameters."""
    match rule.type:
        case OptimizerType.ADAM | OptimizerType.ADAM_W:
            return Adam(rule, parameters)
        case OptimizerType.RMS_PROP:
            return RMSprop(rule, parameters)
        case OptimizerType.ADAGRAD:
            return Adagrad(rule, parameters)
        case _:
            return Descent(rule, parameters)
