"""Metrics of the finished model on each part of the data; computed in NumPy whichever engine trained."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.reports import Metric
from eagleray_runtime.data.dataset import Dataset, Part
from eagleray_runtime.data.preparation import Affine
from eagleray_runtime.models.network import Network, log_softmax


def evaluate(network: Network, dataset: Dataset) -> list[Metric]:
    """Accuracy and LogLoss of classification, RMSE, MAE and R2 of regression (in the target's own unit), part by part.

    A part without rows has no metrics, nor has R2 a part whose target never changes.
    """
    parts: list[tuple[Literal["Training", "Validation", "Test"], Part]] = [
        ("Training", dataset.training),
        ("Validation", dataset.validation),
        ("Test", dataset.test),
    ]
    measure: Callable[[Floats, AnyArray], dict[str, float]] = (
        classification
        if dataset.task == "Classification"
        else lambda outputs, y: regression(outputs, y, dataset.preparation.target)
    )
    return [
        Metric(name=name, part=part_name, value=value)
        for part_name, part in parts
        if part.rows
        for name, value in measure(network.forward(part.x), part.y).items()
    ]


def classification(outputs: Floats, y: AnyArray) -> dict[str, float]:
    """Share of right labels, and mean of -ln p(label); outputs are [rows, classes] before the softmax."""
    logarithms = log_softmax(outputs)
    return {
        "Accuracy": float((logarithms.argmax(axis=1) == y).mean()),
        "LogLoss": -float(logarithms[np.arange(len(y)), y].mean()),
    }


def regression(outputs: Floats, y: AnyArray, target: Affine) -> dict[str, float]:
    """sqrt(mean e^2), mean |e| and 1 - sum e^2 / sum (y - mean y)^2 of the errors e in the target's own unit."""
    errors = (outputs[:, 0] - y) * target.scale
    spread = float(((y - y.mean()) ** 2).sum()) * target.scale**2
    metrics = {"RMSE": float(np.sqrt((errors**2).mean())), "MAE": float(np.abs(errors).mean())}
    if spread > 0:
        metrics["R2"] = 1.0 - float((errors**2).sum()) / spread
    return metrics
