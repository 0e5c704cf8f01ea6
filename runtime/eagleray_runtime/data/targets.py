"""The target as an engine learns it: a scaled number, or the number of its class."""

from collections.abc import Collection

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers, Texts
from eagleray_runtime.contract.blocks import Scaling, TargetScaling
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.data import task
from eagleray_runtime.data.splitting import Parts
from eagleray_runtime.data.start import Start
from eagleray_runtime.data.table import Column
from eagleray_runtime.errors import DataInvalid


def target_scaling(config: TrainingConfig, chosen: list[Choice]) -> Scaling:
    """How a target that is a number is scaled."""
    scaling = config.data.preparation.target_scaling
    if scaling is None:
        unscaled = config.data.preparation.scaling is Scaling.NONE
        scaling = TargetScaling.NONE if unscaled else TargetScaling.STANDARD
        if not unscaled:
            reason = "a target of mean 0 and deviation 1 trains alike in all units; losses are told in the target's own unit"
            chosen.append(Choice(field="data.preparation.targetScaling", value=scaling, reason=reason))
    return Scaling(scaling)


def require_no_target_scaling(config: TrainingConfig) -> None:
    """Refuse to scale classes or text.

    Raises:
        DataInvalid: data.preparation.targetScaling asks for it.
    """
    scaling = config.data.preparation.target_scaling
    if scaling not in (None, TargetScaling.NONE):
        raise DataInvalid(f"data.preparation.targetScaling {scaling} is for a target that is a number, not a class: drop it")


def require_classes(name: str, known: Collection[str]) -> None:
    """Refuse a training part of one class.

    Raises:
        DataInvalid: so it is.
    """
    if len(known) < 2:
        raise DataInvalid(f"target column {name} holds one class only ({', '.join(known)}): there is nothing to tell apart")


def class_numbers(name: str, target: Column, labels: Texts, parts: Parts, *, is_sequence: bool) -> tuple[list[str], AnyArray]:
    """The names of the classes, and of each row the number of its class, int64 [rows].

    Raises:
        DataInvalid: the training part holds only one of them, or not all of the other parts'.
    """
    known = set(labels[parts.training])
    require_classes(name, known)
    for label in labels[np.concatenate([parts.validation, parts.test])]:
        if label not in known:
            raise DataInvalid(
                f"class {label} of target column {name} is not in the training part: "
                + (
                    "give rows of it that were earlier"
                    if is_sequence
                    else "set data.split.method to Stratified or give more rows of it"
                )
            )
    classes = task.in_order(known, target.kind)
    number = {label: index for index, label in enumerate(classes)}
    return classes, np.array([number[label] for label in labels], dtype=np.int64)


def known_numbers(name: str, labels: Texts, start: Start) -> Integers:
    """Of each row the number that its class has in the model that training starts from, int64 [rows].

    Raises:
        DataInvalid: the model does not know the class.
    """
    number = {label: index for index, label in enumerate(start.classes)}
    for label in labels:
        if label not in number:
            known = ", ".join(start.classes)
            raise DataInvalid(f"class {label} of target column {name} is none of the model at {start.uri}, which knows {known}")
    return np.array([number[label] for label in labels], dtype=np.int64)
