"""One trial of a search: the spec with other values, trained and measured on the validation part."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.contract.blocks import Evaluation
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.reports import FailureReason
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.data.loading import Cleaned, clean, folds, prepare
from eagleray_runtime.data.rows import Rows
from eagleray_runtime.data.splitting import NO_ROWS
from eagleray_runtime.errors import ModelInvalid, RuntimeFailure, StoreRefused
from eagleray_runtime.models.network import Network
from eagleray_runtime.models.predictor import evaluating
from eagleray_runtime.reports import Stopped
from eagleray_runtime.storage import Store
from eagleray_runtime.training import metrics
from eagleray_runtime.training.crossvalidation import Scores, cross_validate
from eagleray_runtime.training.engines import below, train
from eagleray_runtime.training.evaluation import answers, outputs
from eagleray_runtime.training.halving import Rungs, is_rung
from eagleray_runtime.training.patience import LOSS
from eagleray_runtime.training.plan import Plan, decide
from eagleray_runtime.training.progress import Progress
from eagleray_runtime.training.space import Values, with_values
from eagleray_runtime.training.trials import Ended

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Trial:
    """What is tried, counted from 1, and by what it is judged.

    `cutoffs` are the values of the metric, by epoch, that it must not be worse than to go on; None if all epochs are trained.
    """

    number: int
    values: Values
    metric: str
    cutoffs: Rungs | None = None


class Halted(Exception):  # noqa: N818 - not an error: others are better
    """The trial is not worth going on with."""


class Halving:
    """Looks at a training after some epochs, and ends it where it is worse than a cutoff."""

    def __init__(self, cutoffs: Mapping[int, float], larger_is_better: bool, value: Callable[[Network], float]) -> None:
        """Look at what `value` says of the network."""
        self._cutoffs, self._value = cutoffs, value
        self._sign = -1 if larger_is_better else 1
        self.rungs: Rungs = {}
        self.halted = False

    def __call__(self, epoch: int, network: Network) -> bool:
        """Whether to end after that epoch."""
        if is_rung(epoch) and np.isfinite(value := self._value(network)):
            self.rungs[epoch] = value
            self.halted = epoch in self._cutoffs and self._sign * value > self._sign * self._cutoffs[epoch]
        return self.halted


def run(config: TrainingConfig, rows: Rows, trial: Trial, progress: Progress) -> Ended | StoreRefused:
    """Train and measure; whatever goes wrong with the trial alone is what it ended with.

    A store that refuses would refuse the other trials and the model too: that is given back, for the search to end with.

    Raises:
        Stopped: nobody waits for this attempt any more.
    """
    rungs: Rungs = {}
    failed: FailureReason | None = None
    value, message, halted = None, "", False
    place = below(config.checkpoints, f"{config.resource.uid}/trial-{trial.number}")
    try:
        if trial.cutoffs is not None:
            # What a checkpoint left behind knows nothing of the rungs before it.
            Store(place).remove_folder()
        try:
            value = _measured(_of_trial(config, trial, place.uri), rows, trial, progress, rungs)
        except Halted:
            halted = True
        Store(place).remove_folder()
    except Stopped:
        raise
    except StoreRefused as failure:
        return failure
    except RuntimeFailure as failure:
        failed, message = failure.reason, failure.message
    except Exception as error:
        log.exception("trial %d", trial.number)
        failed, message = FailureReason.CONTAINER_FAILED, f"{type(error).__name__}: {error}"
    return Ended(
        number=trial.number,
        values=trial.values,
        value=value,
        stopped=halted,
        reason=failed,
        message=message[:LONGEST_MESSAGE],
        rungs=rungs,
    )


def _of_trial(config: TrainingConfig, trial: Trial, place: str) -> TrainingConfig:
    """The configuration of the trial: without what is told or demanded of the finished model."""
    return with_values(config, trial.values).model_copy(
        update={
            "evaluation": Evaluation(cross_validation=config.evaluation.cross_validation),
            "checkpoints": config.checkpoints.model_copy(update={"uri": place}),
        }
    )


def _measured(config: TrainingConfig, rows: Rows, trial: Trial, progress: Progress, rungs: Rungs) -> float:
    """The metric on the validation part, or its mean over the folds."""
    progress.epochs = config.training.epochs
    cleaned = _without_test(clean(config, rows))
    wanted = config.evaluation.cross_validation
    if wanted is None:
        value = _trained(config, prepare(config, cleaned, cleaned.parts), trial, progress, rungs)
    else:

        def score(number: int, fold: Dataset, place: Location) -> Scores:
            progress.fold = number
            # Folds are compared with their like: trials by the first one.
            first = rungs if number == 0 else None
            value = _trained(config.model_copy(update={"checkpoints": place}), fold, trial, progress, first)
            return {trial.metric: value} if np.isfinite(value) else {}

        over_folds = cross_validate(folds(config, cleaned, wanted.folds), score, config.checkpoints)
        value = over_folds[0].value if over_folds else float("nan")
    if not np.isfinite(value):
        raise ModelInvalid(f"{trial.metric} is not defined on the rows to validate on: choose another search.metric")
    return value


def _without_test(cleaned: Cleaned) -> Cleaned:
    """The rows without those to test on, which a search never looks at."""
    return replace(cleaned, parts=cleaned.parts._replace(test=NO_ROWS))


def _trained(config: TrainingConfig, dataset: Dataset, trial: Trial, progress: Progress, rungs: Rungs | None) -> float:
    plan, _ = decide(config, dataset)

    def value(network: Network) -> float:
        return judged(trial.metric, plan, network.forward, dataset)

    halving = None
    if trial.cutoffs is not None and rungs is not None:
        halving = Halving(trial.cutoffs, trial.metric in metrics.LARGER_IS_BETTER, value)
    outcome = train(config, plan, dataset, progress, halving)
    progress.waited(outcome.checkpoint_seconds)
    if halving is not None and rungs is not None:
        rungs.update(halving.rungs)
        if halving.halted:
            raise Halted
    return judged(trial.metric, plan, evaluating(plan.architecture, outcome.parameters), dataset)


def judged(metric: str, plan: Plan, predict: Callable[[AnyArray], Floats], dataset: Dataset) -> float:
    """The loss, in the target's own unit, or a metric of the validation part; `predict` gives outputs before the head."""
    part = dataset.validation
    if metric == LOSS:
        return plan.loss.mean(*outputs(predict, part))[0] * plan.unit
    return metrics.value(metric, answers(predict, plan.architecture.head, dataset, part))
