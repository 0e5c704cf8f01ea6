"""From the configuration to the arrays that an engine learns from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eagleray_runtime.arrays import AnyArray, Bools, Integers, Texts
from eagleray_runtime.contract.blocks import DataFormat, SplitMethod
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, DataReport
from eagleray_runtime.data import image_rows, notes, task, text_files
from eagleray_runtime.data.base import Base
from eagleray_runtime.data.base import read as read_base
from eagleray_runtime.data.cleaning import first_of_each, require_usable, require_use
from eagleray_runtime.data.dataset import Dataset, Part
from eagleray_runtime.data.examples import example_of, example_window
from eagleray_runtime.data.overrides import per_column
from eagleray_runtime.data.preparation import Preparation, Transform, fit, outlying_rows, rows_without_value
from eagleray_runtime.data.rows import TEST, VALIDATION, Rows, categorical, read
from eagleray_runtime.data.scaling import fitted
from eagleray_runtime.data.splitting import NO_ROWS, Parts, fold_rows, split_rows
from eagleray_runtime.data.start import of_start
from eagleray_runtime.data.table import Column, Kind, Table
from eagleray_runtime.data.targets import (
    class_numbers,
    known_numbers,
    require_classes_in_folds,
    require_no_target_scaling,
    target_scaling,
)
from eagleray_runtime.data.texts import foreseen
from eagleray_runtime.data.tokenized import Tokenized, tokenized
from eagleray_runtime.data.windows import Series, cut
from eagleray_runtime.errors import DataInvalid


@dataclass(frozen=True)
class Cleaned:
    """Rows that are fit to be learned from, and how they are divided; nothing has been fitted to them yet.

    `kept` are the places of the rows that were kept. `features`, `target` and `labels` (the classes' names, of classification)
    have an entry for each of them; `parts` are places among them. `groups` is as long as the rows that were dealt,
    and `series`, of a sequence, says which of them follow each other, as `continues` does of the passages of one text.
    """

    rows: Rows
    kept: Integers
    features: Table
    target: Column
    labels: Texts | None
    groups: Column | None
    series: Series | None
    dealt: int
    decided: task.Decision
    method: SplitMethod
    parts: Parts
    incomplete: dict[str, Bools]
    repeated: int
    chosen: list[Choice]
    continues: Bools | None = None


def load(config: TrainingConfig) -> Dataset:
    """Read, clean, split and prepare the rows; raises what `clean` and `prepare` do."""
    cleaned = clean(config)
    return prepare(config, cleaned, cleaned.parts)


def read_rows(config: TrainingConfig) -> Rows:
    """The rows that the family learns from; raises what `clean` does."""
    if image_rows.are_meant(config):
        return image_rows.read(config)
    return text_files.read(config) if config.data.format is DataFormat.TEXT else read(config)


def clean(config: TrainingConfig, rows: Rows | None = None) -> Cleaned:
    """Read the rows, unless they are given, drop those that are not fit, and divide the others.

    Raises:
        DataInvalid: the rows cannot be learned from.
        ModelInvalid: loss and family or target, or rows and preparation, do not go together, or this installation cannot read
            pictures.
        StoreRefused: the rows cannot be fetched.
    """
    rows = read_rows(config) if rows is None else rows
    require_usable(rows)
    wanted = config.data.preparation
    require_use(rows, wanted)
    incomplete = rows_without_value(rows.features, wanted, rows.place)
    complete = _none_of(incomplete, rows.features.rows)
    kept = np.flatnonzero(complete & first_of_each(rows, wanted.duplicates))
    if not len(kept):
        raise DataInvalid(
            "every row has a missing value and data.preparation says DropRow: choose what replaces a missing value instead"
        )
    series = rows.series
    if series is not None:
        # No row of a sequence is dropped; they are split in the order of time, whatever the order that they are stored in.
        kept = series.by_time()
        series = series.take(kept)
    features, target = rows.features.take(kept), rows.target.take(kept)
    decided = task.decide(config, rows.target_name, task.seen(target))
    labels = task.labels(target) if decided.task == "Classification" else None
    chosen = list(decided.chosen)
    method = _method(config, labels, rows, chosen)
    dealt = int((kept < rows.dealt).sum())
    groups = rows.groups.take(kept[:dealt]) if rows.groups is not None else None
    return Cleaned(
        rows=rows,
        kept=kept,
        features=features,
        target=target,
        labels=labels,
        groups=groups,
        series=series,
        dealt=dealt,
        decided=decided,
        method=method,
        parts=_parts(config, rows, kept, method, labels, groups, decided.doubt),
        incomplete=incomplete,
        repeated=int(complete.sum()) - len(kept),
        chosen=chosen,
        continues=None if rows.continues is None else rows.continues[kept] & (np.diff(kept, prepend=-1) == 1),
    )


def folds(config: TrainingConfig, cleaned: Cleaned, count: int) -> Iterator[Dataset]:
    """The rows that are not held out to test the model, each time with another fold of them to validate on.

    Raises:
        DataInvalid: a fold cannot be learned from, told before the first one where it is for want of a class.
    """
    parts = cleaned.parts
    dealt = np.sort(np.concatenate([parts.training, parts.validation]))
    dealt = dealt[dealt < cleaned.dealt]
    labels = cleaned.labels[dealt] if cleaned.labels is not None and cleaned.method is SplitMethod.STRATIFIED else None
    groups = cleaned.groups.take(dealt) if cleaned.groups is not None else None
    seed = config.data.split.seed
    found = [
        Parts(dealt[training], dealt[validation], NO_ROWS)
        for training, validation in fold_rows(len(dealt), count, cleaned.method, seed, labels, groups)
    ]
    if cleaned.labels is not None and cleaned.rows.start is None:
        is_sequence = cleaned.series is not None
        require_classes_in_folds(
            cleaned.rows.target_name, cleaned.labels, found, cleaned.method, cleaned.decided.doubt, is_sequence=is_sequence
        )
    for each in found:
        yield prepare(config, cleaned, each)


def prepare(config: TrainingConfig, cleaned: Cleaned, parts: Parts) -> Dataset:
    """Fit the preparation to the training part and apply it to all parts.

    Raises:
        DataInvalid: too little is left to train on.
        ModelInvalid, StoreRefused: the pretrained model cannot be read.
    """
    rows, features, target, labels = cleaned.rows, cleaned.features, cleaned.target, cleaned.labels
    wanted = config.data.preparation
    chosen = list(cleaned.chosen)
    outlying = outlying_rows(features.take(parts.training), wanted)
    parts = _without_outliers(parts, outlying, rows.target_name, labels)
    training = features.take(parts.training)
    start = rows.start
    base = read_base(config.base_location) if config.base_location is not None else None
    text = _tokenized(config, cleaned, parts, base)
    if text is not None:
        preparation, changed, changes = Preparation(columns=[text.column]), text.changed, text.notes
    else:
        if start is None:
            preparation = fit(training, wanted)
        else:
            preparation = of_start(start, features, wanted, is_classification=labels is not None)
        found = notes.Changes().see(features.take(np.concatenate(parts)), preparation)
        changed, changes = found.rows, notes.changes(found, preparation, per_column(features, wanted) if start is None else {})
    classes: list[str] = []
    y: AnyArray = np.empty(0)
    if cleaned.decided.task == "LanguageModeling":
        require_no_target_scaling(config)
    elif labels is None and start is None:
        affine = fitted(target.values[parts.training], target_scaling(config, chosen))
        y = (target.values - affine.offset) / affine.scale
        preparation = preparation.model_copy(update={"target": affine})
    elif labels is None:
        y = (target.values - preparation.target.offset) / preparation.target.scale
    elif start is None:
        require_no_target_scaling(config)
        classes, y = class_numbers(
            rows.target_name, target, labels, parts, cleaned.method, cleaned.decided.doubt, is_sequence=cleaned.series is not None
        )
    else:
        classes, y = start.classes, known_numbers(rows.target_name, labels, start)

    series = cleaned.series
    windows = cut(series, parts, config.data.sequence) if series is not None and config.data.sequence is not None else None
    if text is not None:
        training_part, validation_part, test_part = (
            Part(x, foreseen(x) if cleaned.decided.task == "LanguageModeling" else y[numbers])
            for x, numbers in zip(text.parts, parts, strict=True)
        )
    elif windows is None:
        transform = Transform(preparation)
        training_part, validation_part, test_part = (
            Part(transform.table(features.take(numbers)), y[numbers]) for numbers in parts
        )
    else:
        prepared = Transform(preparation).table(features).astype(np.float32)
        training_part, validation_part, test_part = (Part(each.of(prepared), y[each.targets]) for each in windows)
    return Dataset(
        task=cleaned.decided.task,
        loss=cleaned.decided.loss,
        training=training_part,
        validation=validation_part,
        test=test_part,
        preparation=preparation,
        classes=classes,
        target=rows.target_name,
        example=example_of(training) if windows is None else example_window(features.take(windows[0].rows[0])),
        report=DataReport(
            rows=rows.features.rows,
            training=len(parts.training),
            validation=len(parts.validation),
            test=len(parts.test),
            dropped=rows.features.rows - sum(len(numbers) for numbers in parts),
            changed=changed,
            digest=rows.digest,
            notes=notes.bounded(
                [
                    *rows.notes,
                    *_mostly_numbers(config, features),
                    *(notes.windows([len(each.targets) for each in windows]) if windows else []),
                    *notes.without_value(int((~_none_of(cleaned.incomplete, rows.features.rows)).sum()), cleaned.incomplete),
                    *notes.repeated(cleaned.repeated),
                    *notes.outlying(outlying),
                    *changes,
                ]
            ),
        ),
        chosen=chosen,
        start=start,
        code=rows.code,
        tokenizer=text.tokenizer if text is not None else None,
        base=base,
    )


def _mostly_numbers(config: TrainingConfig, features: Table) -> list[str]:
    """Notes on the columns that are categories for the sake of a few words among numbers."""
    said = categorical(config.data)
    texts = [name for name in features if features[name].kind is Kind.TEXT and name not in said]
    return [note for name in texts for note in notes.mostly_numbers(name, Counter(features[name].values.tolist()))]


def _tokenized(config: TrainingConfig, cleaned: Cleaned, parts: Parts, base: Base | None) -> Tokenized | None:
    """The text that is learned from, as tokens; None if it is something else."""
    wanted = config.data.text
    if wanted is None:
        return None
    [name] = cleaned.features
    texts = cleaned.features[name].values
    in_pieces = cleaned.decided.task == "LanguageModeling"
    return tokenized(name, texts, parts, cleaned.continues, wanted, base, in_pieces=in_pieces)


def _method(config: TrainingConfig, labels: Texts | None, rows: Rows, chosen: list[Choice]) -> SplitMethod:
    method = config.data.split.method
    if method is SplitMethod.STRATIFIED and labels is None:
        raise DataInvalid("data.split.method Stratified needs classes, and the target is none: use Random or Auto")
    if method is SplitMethod.AUTO:
        method = SplitMethod.RANDOM if labels is None else SplitMethod.STRATIFIED
        reason = f"the target is {'a number' if labels is None else 'a class'}"
        if rows.target.kind is Kind.DOCUMENT:
            reason = "each text is one by itself"
        if rows.continues is not None:
            method, reason = SplitMethod.CHRONOLOGICAL, "it is one text, of which the beginning is learned"
        if config.data.sequence is not None:
            method, reason = SplitMethod.CHRONOLOGICAL, "what comes later must not be known: windows overlap"
        chosen.append(Choice(field="data.split.method", value=method, reason=reason))
    return method


def _parts(
    config: TrainingConfig,
    rows: Rows,
    kept: Integers,
    method: SplitMethod,
    labels: Texts | None,
    groups: Column | None,
    doubt: str,
) -> Parts:
    """The parts as places among the kept rows: the dealt ones split, those of files of their own behind them."""
    dealt = int((kept < rows.dealt).sum())
    stratified = labels[:dealt] if labels is not None and method is SplitMethod.STRATIFIED else None
    parts = split_rows(dealt, config.data.split.model_copy(update={"method": method}), stratified, groups, doubt)
    own: dict[str, Integers] = {}
    first, last = rows.dealt, dealt
    for field, number in rows.held_out.items():
        count = int(((first <= kept) & (kept < first + number)).sum())
        if not count:
            raise DataInvalid(f"every row of {field} lacks a value or repeats another, and data.preparation drops these")
        own[field] = np.arange(last, last + count)
        first, last = first + number, last + count
    return parts._replace(
        validation=own.get(VALIDATION, parts.validation),
        test=own.get(TEST, parts.test),
    )


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
