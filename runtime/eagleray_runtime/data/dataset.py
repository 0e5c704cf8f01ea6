"""From the configuration to the arrays that an engine learns from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eagleray_runtime.arrays import AnyArray, Bools, Floats, Texts
from eagleray_runtime.contract.blocks import Duplicates, LossType, Scaling, SplitMethod, TargetScaling
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, DataReport
from eagleray_runtime.data import notes, sample, task
from eagleray_runtime.data.naming import no_column
from eagleray_runtime.data.preparation import Preparation, Transform, fit, outlying_rows, rows_without_value
from eagleray_runtime.data.reading import Source, read_files
from eagleray_runtime.data.scaling import Affine, fitted
from eagleray_runtime.data.splitting import Parts, split_rows
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.data.task import Task
from eagleray_runtime.errors import DataInvalid
from eagleray_runtime.storage import Store


@dataclass(frozen=True)
class Part:
    """Prepared rows: `x` float64 [rows, features]; `y` float64 [rows] (scaled target) or int64 [rows] (class numbers)."""

    x: Floats
    y: AnyArray

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Everything that training, evaluation and the bundle need to know of the data."""

    task: Task
    loss: LossType
    training: Part
    validation: Part
    test: Part
    preparation: Preparation
    classes: list[str]
    target: str
    example: dict[str, float | str | None]
    report: DataReport
    chosen: list[Choice]

    @property
    def inputs(self) -> int:
        """Number of prepared columns."""
        return int(self.training.x.shape[1])


def load(config: TrainingConfig) -> Dataset:
    """Read, clean, split and prepare the rows.

    Raises:
        DataInvalid: the rows cannot be learned from.
        ModelInvalid: loss and family or target do not go together.
        StoreRefused: the rows cannot be fetched.
    """
    table, target_name, digest = _rows(config)
    features = table.select([name for name in table if name != target_name])
    if not features.columns:
        raise DataInvalid(f"there is no column to learn from beside the target {target_name}")
    target = table[target_name]
    _require_target(target_name, target)
    _require_finite(table)
    chosen: list[Choice] = []
    wanted = config.data.preparation

    incomplete = rows_without_value(features, wanted)
    complete = _none_of(incomplete, features.rows)
    kept = complete & _without_duplicates(features, target, wanted.duplicates)
    if not kept.any():
        raise DataInvalid(
            "every row has a missing value and data.preparation says DropRow: choose what replaces a missing value instead"
        )
    rows = np.flatnonzero(kept)
    features, target = features.take(rows), target.take(rows)

    decided = task.decide(config, target_name, target)
    chosen += decided.chosen
    labels = _labels(target) if decided.task == "Classification" else None
    parts = _parts(config, features.rows, labels, chosen)
    outlying = outlying_rows(features.take(parts.training), wanted)
    parts = _without_outliers(parts, outlying, target_name, labels)
    training = features.take(parts.training)
    preparation = fit(training, wanted)
    changed, changes = notes.changes(features.take(np.concatenate(parts)), preparation, wanted)
    classes: list[str] = []
    y: AnyArray
    if labels is None:
        y, affine = _scaled_target(config, target, parts, chosen)
        preparation = preparation.model_copy(update={"target": affine})
    else:
        _require_no_target_scaling(config)
        classes, y = _class_numbers(target_name, target, labels, parts)

    transform = Transform(preparation)

    def part(numbers: AnyArray) -> Part:
        return Part(transform.table(features.take(numbers)), y[numbers])

    return Dataset(
        task=decided.task,
        loss=decided.loss,
        training=part(parts.training),
        validation=part(parts.validation),
        test=part(parts.test),
        preparation=preparation,
        classes=classes,
        target=target_name,
        example=_example(training),
        report=DataReport(
            rows=table.rows,
            training=len(parts.training),
            validation=len(parts.validation),
            test=len(parts.test),
            dropped=table.rows - sum(len(numbers) for numbers in parts),
            changed=changed,
            digest=digest,
            notes=notes.bounded(
                [
                    *notes.without_value(incomplete),
                    *notes.repeated(int(complete.sum()) - len(rows)),
                    *notes.outlying(outlying),
                    *changes,
                ]
            ),
        ),
        chosen=chosen,
    )


def _rows(config: TrainingConfig) -> tuple[Table, str, str]:
    """The columns to work with, the name of the target among them, and the digest of the data."""
    data = config.data
    if data.sample is not None:
        table = sample.linear_regression(data.split.seed)
        content = b"".join(table[name].values.tobytes() for name in table)
        return table, "y", f"sha256:{hashlib.sha256(content).hexdigest()}"
    if data.target is None:
        raise DataInvalid("data.target is not set: name the column to predict")
    source = _source(config)
    if data.target not in source.names:
        raise DataInvalid(no_column("data.target", data.target, source.names))
    features = data.features or [name for name in source.names if name != data.target]
    for name in features:
        if name not in source.names:
            raise DataInvalid(no_column("data.features", name, source.names))
        if name == data.target:
            raise DataInvalid(f"data.features names the target {name} itself: leave it out")
    # A name that stands twice in the list is one column.
    return source.table([*dict.fromkeys(features), data.target]), data.target, source.digest


def _source(config: TrainingConfig) -> Source:
    if config.data_file is not None:
        path = Path(config.data_file)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataInvalid(f"{path.name} of the ConfigMap cannot be read: {error.strerror}: check configMapRef") from error
        return read_files([(path.name, content)], config.data.format)
    if config.data_location is None:
        raise DataInvalid("there are no rows: set data.uri, data.configMapRef or data.sample")
    store = Store(config.data_location)
    files = [(path.rsplit("/", 1)[-1], store.read_path(path)) for path in store.find()]
    return read_files(files, config.data.format)


def _require_target(name: str, target: Column) -> None:
    missing = target.missing
    if missing.any():
        raise DataInvalid(
            f"target column {name} has no value (empty or NaN) in row {int(np.argmax(missing)) + 1} "
            f"({int(missing.sum())} such rows, the first row of data is row 1): remove or complete these rows"
        )


def _require_finite(table: Table) -> None:
    for name in table:
        column = table[name]
        if column.kind is Kind.TEXT:
            continue
        infinite = np.isinf(column.values)
        if infinite.any():
            raise DataInvalid(
                f"column {name} holds infinity in row {int(np.argmax(infinite)) + 1} ({int(infinite.sum())} such rows): "
                "replace it by a number or leave it empty"
            )


def _without_duplicates(features: Table, target: Column, action: Duplicates) -> AnyArray:
    """Mask of the rows to keep, shape [rows]."""
    kept = np.ones(features.rows, dtype=np.bool_)
    if action is Duplicates.KEEP:
        return kept
    columns = [*features.columns.values(), target]
    seen: set[tuple[object, ...]] = set()
    for row, values in enumerate(zip(*(_comparable(column) for column in columns), strict=True)):
        if values in seen:
            kept[row] = False
        seen.add(values)
    repeated = int((~kept).sum())
    if repeated and action is Duplicates.ERROR:
        raise DataInvalid(
            f"row {int(np.argmin(kept)) + 1} repeats an earlier row ({repeated} such rows) and data.preparation.duplicates "
            "is Error: remove them or set it to Drop or Keep"
        )
    return kept


def _comparable(column: Column) -> list[object]:
    """Values of which two missing ones are equal, which NaN is not."""
    return [None if value != value else value for value in column.values.tolist()]


def _parts(config: TrainingConfig, rows: int, labels: Texts | None, chosen: list[Choice]) -> Parts:
    method = config.data.split.method
    if method is SplitMethod.STRATIFIED and labels is None:
        raise DataInvalid("data.split.method Stratified needs classes, but the target is a number: use Random or Auto")
    stratified = labels is not None and method is not SplitMethod.RANDOM
    if method is SplitMethod.AUTO:
        value = SplitMethod.STRATIFIED if stratified else SplitMethod.RANDOM
        chosen.append(
            Choice(field="data.split.method", value=value, reason=f"the target is {'a class' if stratified else 'a number'}")
        )
    return split_rows(rows, config.data.split, labels if stratified else None)


def _without_outliers(parts: Parts, outlying: dict[str, Bools], target: str, labels: Texts | None) -> Parts:
    """The parts without the rows of the training part that hold an outlier."""
    kept = parts.training[_none_of(outlying, len(parts.training))]
    advice = "set data.preparation.outlierAction to Clip"
    if not len(kept):
        raise DataInvalid(f"every row of the training part has an outlier in some column: {advice}")
    if labels is not None and (lost := set(labels[parts.training]) - set(labels[kept])):
        raise DataInvalid(f"every row of class {min(lost)} of target column {target} to train on has an outlier: {advice}")
    return parts._replace(training=kept)


def _none_of(masks: dict[str, Bools], rows: int) -> Bools:
    """Mask of the rows that are in none of the masks, shape [rows]."""
    found = np.zeros(rows, dtype=np.bool_)
    for mask in masks.values():
        found |= mask
    return ~found


def _scaled_target(config: TrainingConfig, target: Column, parts: Parts, chosen: list[Choice]) -> tuple[Floats, Affine]:
    scaling = config.data.preparation.target_scaling
    if scaling is None:
        unscaled = config.data.preparation.scaling is Scaling.NONE
        scaling = TargetScaling.NONE if unscaled else TargetScaling.STANDARD
        if not unscaled:
            reason = "a target of mean 0 and deviation 1 trains alike in all units; losses are told in the target's own unit"
            chosen.append(Choice(field="data.preparation.targetScaling", value=scaling, reason=reason))
    affine = fitted(target.values[parts.training], Scaling(scaling))
    return (target.values - affine.offset) / affine.scale, affine


def _require_no_target_scaling(config: TrainingConfig) -> None:
    scaling = config.data.preparation.target_scaling
    if scaling not in (None, TargetScaling.NONE):
        raise DataInvalid(f"data.preparation.targetScaling {scaling} is for a target that is a number, not a class: drop it")


def _labels(target: Column) -> Texts:
    """The classes' names, shape [rows]: text as it is, `true` or `false`, or the whole number."""
    if target.kind is Kind.TEXT:
        return target.values
    if target.kind is Kind.BOOLEAN:
        return np.array(["true" if value else "false" for value in target.values], dtype=np.object_)
    return np.array([str(int(value)) for value in target.values], dtype=np.object_)


def _class_numbers(name: str, target: Column, labels: Texts, parts: Parts) -> tuple[list[str], AnyArray]:
    known = set(labels[parts.training])
    if len(known) < 2:
        raise DataInvalid(f"target column {name} holds one class only ({labels[0]}): there is nothing to tell apart")
    for label in labels[np.concatenate([parts.validation, parts.test])]:
        if label not in known:
            raise DataInvalid(
                f"class {label} of target column {name} is not in the training part: "
                "set data.split.method to Stratified or give more rows of it"
            )
    classes = sorted(known) if target.kind in (Kind.TEXT, Kind.BOOLEAN) else sorted(known, key=int)
    number = {label: index for index, label in enumerate(classes)}
    return classes, np.array([number[label] for label in labels], dtype=np.int64)


def _example(training: Table) -> dict[str, float | str | None]:
    """The first training row as JSON values, for the bundle's example request."""
    return {name: None if training[name].missing[0] else training[name].values[0] for name in training}
