"""The target as an engine learns it: a scaled number, or the number of its class."""

from collections.abc import Collection, Sequence

import numpy as np

from eagleray_runtime.arrays import Integers, Texts
from eagleray_runtime.contract.blocks import Scaling, SplitMethod, TargetScaling
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


def class_numbers(
    name: str, target: Column, labels: Texts, parts: Parts, method: SplitMethod, doubt: str, *, is_sequence: bool
) -> tuple[list[str], Integers]:
    """The names of the classes, and of each row the number of its class, int64 [rows]: -1 where no row to train on has it.

    `doubt` is what a message is to add.

    Raises:
        DataInvalid: the training part holds only one of them, or not all of the other parts'.
    """
    known = set(labels[parts.training])
    require_classes(name, known)
    if (label := _unlearned(labels, parts)) is not None:
        advice = _advice(method, is_sequence=is_sequence)
        raise DataInvalid(f"class {label} of target column {name} is not in the training part: {advice}{doubt}")
    classes = task.in_order(known, target.kind)
    number = {label: index for index, label in enumerate(classes)}
    return classes, np.array([number.get(label, -1) for label in labels], dtype=np.int64)


def require_classes_in_folds(
    name: str, labels: Texts, folds: Sequence[Parts], method: SplitMethod, doubt: str, *, is_sequence: bool
) -> None:
    """Refuse a fold that is validated on a class which it does not train on; `doubt` is what the message is to add.

    Raises:
        DataInvalid: so it is.
    """
    for number, parts in enumerate(folds, start=1):
        if (label := _unlearned(labels, parts)) is not None:
            rows = int((labels[np.concatenate(folds[-1])] == label).sum())
            # Of folds in the order of time, fewer ones begin with more rows.
            fewer = "lower evaluation.crossValidation.folds, " if method is SplitMethod.CHRONOLOGICAL else ""
            raise DataInvalid(
                f"class {label} of target column {name} has {rows} row{'' if rows == 1 else 's'} beside those to test on, and "
                f"fold {number} of {len(folds)} trains on none of them: {_advice(method, is_sequence=is_sequence)}, "
                f"{fewer}or drop evaluation.crossValidation{doubt}"
            )


def _unlearned(labels: Texts, parts: Parts) -> str | None:
    """A class of another part that the training part has not."""
    known = set(labels[parts.training])
    return next((label for label in labels[np.concatenate([parts.validation, parts.test])] if label not in known), None)


def _advice(method: SplitMethod, *, is_sequence: bool) -> str:
    """What helps where a class is not in the training part."""
    match method:
        case SplitMethod.STRATIFIED:
            return "give more rows of it to train on"
        case SplitMethod.CHRONOLOGICAL if is_sequence:
            return "give rows of it that were earlier"
        case SplitMethod.CHRONOLOGICAL:
            return "give rows of it that were earlier or set data.split.method to Stratified"
        case SplitMethod.GROUP:
            return "give rows of it in more groups or another data.split.seed"
        case _:
            return "set data.split.method to Stratified or give more rows of it"


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
