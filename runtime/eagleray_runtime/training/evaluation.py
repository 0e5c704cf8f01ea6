"""Metrics of the finished model on each part of the data; computed in NumPy whichever engine trained."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.reports import Metric
from eagleray_runtime.data.dataset import Dataset, Part
from eagleray_runtime.data.preparation import Affine
from eagleray_runtime.models.heads import Head, class_numbers, log_probabilities
from eagleray_runtime.models.network import Network

Measure = Callable[[Floats, AnyArray], dict[str, float]]
"""Metrics by name of outputs before the head [rows, outputs], and what they should be [rows]."""


def metric_names(head: Head) -> list[str]:
    """The metrics of a model with this head."""
    if head == "Identity":
        return ["RMSE", "MAE", "R2"]
    return ["Accuracy"] if head == "Argmax" else ["Accuracy", "LogLoss"]


def measure(head: Head, target: Affine) -> Measure:
    """What measures a model with this head; numbers are told in the target's own unit."""
    if head == "Identity":
        return lambda outputs, y: regression(outputs, y, target)
    return lambda outputs, y: classification(head, outputs, y)


def evaluate(network: Network, dataset: Dataset) -> list[Metric]:
    """The metrics of the task, part by part.

    A part without rows has no metrics, nor has R2 a part whose target never changes.
    """
    parts: list[tuple[Literal["Training", "Validation", "Test"], Part]] = [
        ("Training", dataset.training),
        ("Validation", dataset.validation),
        ("Test", dataset.test),
    ]
    of = measure(network.architecture.head, dataset.preparation.target)
    return [
        Metric(name=name, part=part_name, value=value)
        for part_name, part in parts
        if part.rows
        for name, value in of(network.forward(part.x), part.y).items()
    ]


def classification(head: Head, outputs: Floats, y: AnyArray) -> dict[str, float]:
    """Share of right labels, and where the head gives probabilities the mean of -ln p(label)."""
    metrics = {"Accuracy": float((class_numbers(head, outputs) == y).mean())}
    if head != "Argmax":
        metrics["LogLoss"] = -float(log_probabilities(head, outputs)[np.arange(len(y)), y].mean())
    return metrics


def regression(outputs: Floats, y: AnyArray, target: Affine) -> dict[str, float]:
    """sqrt(mean e^2), mean |e| and 1 - sum e^2 / sum (y - mean y)^2 of the errors e in the target's own unit."""
    errors = (outputs[:, 0] - y) * target.scale
    spread = float(((y - y.mean()) ** 2).sum()) * target.scale**2
    metrics = {"RMSE": float(np.sqrt((errors**2).mean())), "MAE": float(np.abs(errors).mean())}
    if spread > 0:
        metrics["R2"] = 1.0 - float((errors**2).sum()) / spread
    return metrics
