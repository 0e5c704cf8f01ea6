"""The search for the best values of some fields of the spec: trials one after the other, or several at once on Ray."""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, FailureReason, Stage
from eagleray_runtime.contract.search import Search, SearchAlgorithm
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import Cleaned, clean, prepare
from eagleray_runtime.data.rows import Rows
from eagleray_runtime.errors import ModelInvalid, RuntimeFailure, StoreRefused
from eagleray_runtime.storage import Store
from eagleray_runtime.training import metrics, trial, trials
from eagleray_runtime.training.draws import draw
from eagleray_runtime.training.halving import cutoffs
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.plan import decide
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.space import Values, dimensions, require_rules, text, told, with_values
from eagleray_runtime.training.trial import Trial
from eagleray_runtime.training.trials import Ended

log = logging.getLogger(__name__)


class AllFailed(RuntimeFailure):
    """No trial came to a value."""

    def __init__(self, reason: FailureReason, words: str) -> None:
        """The reason is that of the newest failure."""
        super().__init__(words)
        self.reason = reason


class Found(NamedTuple):
    """The configuration with the best trial's values, and these as choices with their reason."""

    config: TrainingConfig
    chosen: list[Choice]


def search(config: TrainingConfig, wanted: Search, rows: Rows, checkpoints: Store, progress: Progress) -> Found:
    """Make the trials that no earlier attempt has made, and take the best one's values.

    Everything that can be told of the values without training is told before the first trial.

    Raises:
        RuntimeFailure: the search asks for what there is not or for what does not go together, all trials failed, or the store
            refused.
        Stopped: nobody waits for this attempt any more.
    """
    drawn = draw(wanted, dimensions(config, wanted), config.training.seed)
    require_sound(config, wanted, rows, drawn)
    larger = wanted.metric in metrics.LARGER_IS_BETTER
    ended = trials.kept(checkpoints, drawn)
    running: set[int] = set()
    at_once, chosen = parallelism(wanted, config.workers.cpus)
    progress.chosen = chosen
    progress.searches(len(drawn))

    def tell() -> None:
        progress.trials(trials.summary(ended, len(drawn), len(running), larger_is_better=larger), len(ended))

    def begin(number: int) -> Trial:
        running.add(number)
        tell()
        rungs = None
        if wanted.algorithm is SearchAlgorithm.ASHA:
            rungs = cutoffs([each.rungs for each in ended], larger_is_better=larger)
        return Trial(number, drawn[number - 1], wanted.metric, rungs)

    # How far an earlier attempt came is told with the stage, before the next trial begins.
    tell()
    progress.stage(Stage.TRAINING)
    known = {each.number for each in ended}
    # A trial begins when there is room for it: by then more of the others are known.
    left = (begin(number) for number in range(1, len(drawn) + 1) if number not in known)
    for result in _results(config, rows, left, at_once, progress):
        if isinstance(result, StoreRefused):
            raise result
        running.discard(result.number)
        ended.append(result)
        log.info("trial %d of %d: %s: %s", result.number, len(drawn), told(result.values), _came_to(result, wanted.metric))
        trials.keep(checkpoints, ended)
    tell()
    best = trials.ranked(ended, larger_is_better=larger)
    if not best:
        newest = ended[-1]
        raise AllFailed(
            newest.reason or FailureReason.MODEL_INVALID,
            f"all {len(drawn)} trials of the search failed, the newest, with {told(newest.values)}: {newest.message}",
        )
    reason = why(config, wanted.metric, best[0], ended)
    values = [Choice(field=field, value=text(value), reason=reason) for field, value in best[0].values.items()]
    return Found(with_values(config, best[0].values), [*values, *chosen])


def parallelism(wanted: Search, cpus: float) -> tuple[int, list[Choice]]:
    """How many trials run at once on so many cores, and the choice to tell where that is fewer than were asked for."""
    cores = max(1, int(cpus))
    if wanted.parallel_trials <= cores:
        return wanted.parallel_trials, []
    reason = f"workers.cpus {cpus:g} has no more whole cores"
    return cores, [Choice(field="search.parallelTrials", value=str(cores), reason=reason)]


def why(config: TrainingConfig, metric: str, best: Ended, ended: list[Ended]) -> str:
    """Why the best trial's values are chosen."""
    others = [
        f"{count} {what}"
        for what, count in (
            ("failed", sum(each.reason is not None for each in ended)),
            ("were ended early", sum(each.stopped for each in ended)),
        )
        if count
    ]
    of_which = f", of which {' and '.join(others)}," if others else ""
    folds = config.evaluation.cross_validation
    measure = f"the mean of {metric} over {folds.folds} folds" if folds else f"{metric} on the validation part"
    return f"the best of {len(ended)} trials{of_which} by {measure}: {best.value:.6g}"


def require_sound(config: TrainingConfig, wanted: Search, rows: Rows, drawn: list[Values]) -> None:
    """Refuse a search of which a trial is no valid job, or cannot be compared with the others.

    Raises:
        RuntimeFailure: as the job itself would be refused, or ModelInvalid.
    """
    alike: dict[str, list[tuple[Values, TrainingConfig]]] = {}
    for values in drawn:
        tried = with_values(config, values)
        require_rules(tried, values)
        rows_depend_on = [tried.data.model_dump(mode="json"), tried.model.family, tried.training.loss.type]
        alike.setdefault(json.dumps(rows_depend_on), []).append((values, tried))
    first: tuple[Values, Cleaned] | None = None
    deltas: set[float] = set()
    for group in alike.values():
        values, tried = group[0]
        try:
            cleaned = clean(tried, rows)
            first = first or (values, cleaned)
            _require_comparable(wanted.metric, *first, values, cleaned)
            dataset = prepare(tried, cleaned, cleaned.parts)
            for values, tried in group:  # noqa: B007 - told where it fails
                _require_judged(tried, wanted.metric, dataset)
            if wanted.metric == LOSS and dataset.loss is LossType.HUBER and tried.training.loss.delta is None:
                deltas.add(dataset.preparation.target.scale)
            if len(deltas) > 1:
                raise ModelInvalid(
                    "that changes from which error on the loss grows linearly, so that the trials cannot be compared: set "
                    "training.loss.delta, or search.metric to a metric of the task"
                )
        except RuntimeFailure as failure:
            raise type(failure)(f"spec.search tries {told(values)}: {failure.message}") from failure


def _require_comparable(metric: str, first: Values, one: Cleaned, values: Values, other: Cleaned) -> None:
    if one.decided.task != other.decided.task:
        raise ModelInvalid(f"that makes the task {other.decided.task}, and {told(first)} makes it {one.decided.task}: search one")
    if not np.array_equal(one.kept, other.kept):
        raise ModelInvalid(
            f"that leaves other rows to validate on than {told(first)}, so that the two cannot be compared: search values that "
            "drop the same rows"
        )
    if metric == LOSS and one.decided.loss is not other.decided.loss:
        raise ModelInvalid(
            f"that makes the loss {other.decided.loss}, and {told(first)} makes it {one.decided.loss}: set search.metric to a "
            "metric of the task, by which the two can be compared"
        )


def _require_judged(config: TrainingConfig, metric: str, dataset: Dataset) -> None:
    plan, _ = decide(config, dataset)
    names = [LOSS, *metrics.names(plan.architecture.head)]
    if metric not in names:
        raise ModelInvalid(f"search.metric {metric} is not one of this task: use {', '.join(names)}")
    if config.evaluation.cross_validation is None and not dataset.validation.rows:
        raise ModelInvalid(
            "it looks at the validation part, which is empty: set data.split.validationPercent or evaluation.crossValidation"
        )


def _results(
    config: TrainingConfig, rows: Rows, begun: Iterable[Trial], at_once: int, progress: Progress
) -> Iterator[Ended | StoreRefused]:
    """What each trial came to, in the order in which they end."""
    if at_once == 1:
        return (trial.run(config, rows, each, progress) for each in begun)
    # Only here: trials one after the other need no Ray.
    from eagleray_runtime.training import parallel

    return parallel.results(config, rows, begun, at_once)


def _came_to(result: Ended, metric: str) -> str:
    if result.value is not None:
        return f"{metric} {result.value:.6g}"
    return "ended early" if result.stopped else f"{result.reason}: {result.message}"
