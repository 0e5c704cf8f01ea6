"""Progress reports: what share of the job is done, how long it will still take."""

import logging
import time
from typing import Any

from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice, Estimate, HistoryPoint, ProgressReport, SearchReport, Spent, Stage
from eagleray_runtime.reports import Reporter
from eagleray_runtime.training.estimate import judged, refined
from eagleray_runtime.training.outcome import EpochEnd, FirstEpoch, Outcome

log = logging.getLogger(__name__)

TRAINING_FROM, TRAINING_TO = 5.0, 90.0
"""Share of the whole job, in percent, at which training begins and ends."""

STAGE_PERCENT = {Stage.PREPARING: 0.0, Stage.TRAINING: TRAINING_FROM, Stage.EVALUATING: 90.0, Stage.SAVING: 95.0}


class Progress:
    """Builds the reports of one attempt and hands them to a reporter.

    It may be sent to another process, which then reports through a connection of its own.
    """

    def __init__(self, config: TrainingConfig, reporter: Reporter | None = None) -> None:
        self._config = config
        self._reporter = reporter or Reporter(config.reports_url)
        self._began: tuple[float, float] | None = None
        self.epochs = config.training.epochs
        """Epochs of the training that runs."""
        self.fold = 0
        """Trainings that were finished before this one, of those that cross-validation asks for and the model's own."""
        self.search: SearchReport | None = None
        """How far the search is, if the job has one."""
        self.resumes = False
        """Whether an earlier run has left a part of the job behind. It has told what the job needs, as well as it knew."""
        self._trials = self._ended = 0
        self._started = time.time()
        self._trains_since: float | None = None
        self._estimate: Estimate | None = None
        self._apart = 0.0
        self._is_refined = False
        self._spent = Spent()
        self.chosen: list[Choice] = []
        self.last = ProgressReport(
            resource=config.resource, attempt=config.attempt, stage=Stage.PREPARING, epochs=config.training.epochs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_reporter", "_began")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_config"])  # type: ignore[misc]
        vars(self).update(state)

    def stage(self, stage: Stage) -> None:
        """Tell that another stage begins."""
        if stage is Stage.TRAINING and self._trains_since is None:
            self._trains_since = time.time()
        percent = max(self.last.percent, STAGE_PERCENT[stage])
        self.last = self.last.model_copy(
            update={
                "stage": stage,
                "percent": percent,
                "chosen": self.chosen,
                "estimated_remaining_seconds": None,
                "spent": self.spent(0.0, 0.0),
                "estimate": self._told if stage is Stage.TRAINING else self._measured,
            }
        )
        self._reporter.progress(self.last)

    def searches(self, trials: int) -> None:
        """Count so many trials of a search, before the trainings of the model."""
        self._trials = trials

    def trials(self, search: SearchReport, ended: int) -> None:
        """Tell how far the search is, of which so many trials have ended."""
        self.search, self._ended, self.fold = search, ended, 0
        now = time.monotonic()
        if self._began is None:
            self._began = (now, self._trained(0))
        anew = {"epoch": 0, "step": 0, "metrics": {}, "history": [], "spent": self.spent(0.0, 0.0)}
        self.last = self.last.model_copy(update=self._share(0, now) | anew)
        self._reporter.progress(self.last)

    def epoch(self, end: EpochEnd) -> None:
        """Tell the end of an epoch; cheap when no report is due."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, self._trained(end.epoch))
        self._refine(end.first_epoch)
        if end.epoch != self.epochs and not self._reporter.due(Stage.TRAINING):
            return
        self.last = self.at(end, now)
        log.info("epoch %d of %d: loss %.6g", end.epoch, self.last.epochs, end.training)
        self._reporter.progress(self.last)

    def estimated(self, estimate: Estimate, after_training: float) -> None:
        """Tell from now on what training will need, of its duration so many seconds after it.

        The duration is counted from now, and told with what has passed already.
        """
        passed = time.time() - self._started
        self._apart = passed + after_training
        self._estimate = estimate.model_copy(update={"duration_seconds": round(passed + estimate.duration_seconds, 3)})

    def judged(self) -> Estimate | None:
        """The estimate beside how long the job took, where nothing interrupted it; None where no epoch has measured it."""
        was_interrupted = self.resumes or self._config.attempt > 1 or self._spent.recovery > 0
        if self._measured is None or was_interrupted:
            return self._measured
        return judged(self._measured, time.time() - self._started)

    def measured(self, outcome: Outcome) -> None:
        """Take over what a training that is over tells of time; an engine on other processes has told it from there."""
        self.waited(outcome.checkpoint_seconds)
        self._refine(outcome.first_epoch)

    def _refine(self, first: FirstEpoch | None) -> None:
        """Take the first epoch of the first training as a measure of all."""
        if self._is_refined or first is None or self._estimate is None:
            return
        self._estimate = refined(self._estimate, self._apart, first, self.epochs, max(1, self._folds))
        self._is_refined = True

    @property
    def _measured(self) -> Estimate | None:
        """The estimate, once an epoch has measured it."""
        return self._estimate if self._is_refined else None

    @property
    def _told(self) -> Estimate | None:
        """The estimate, unless a better one has been told before."""
        return self._measured if self.resumes else self._estimate

    def waited(self, checkpoint: float = 0.0, lost: float = 0.0, recovery: float = 0.0) -> None:
        """Count seconds of a training that is over, or whose workers were started anew; the names are those of `Spent`."""
        before = self._spent
        self._spent = before.model_copy(
            update={
                "checkpoint": before.checkpoint + checkpoint,
                "lost": before.lost + max(0.0, lost),
                "recovery": before.recovery + max(0.0, recovery),
            }
        )

    def spent(self, checkpoint: float, unsaved: float) -> Spent | None:
        """How the time has been spent since training began, None before; `checkpoint` are seconds of the training that runs."""
        if self._trains_since is None:
            return None
        seconds = max(0.0, time.time() - self._trains_since)
        return self._spent.model_copy(
            update={"seconds": seconds, "checkpoint": self._spent.checkpoint + checkpoint, "unsaved": unsaved}
        )

    def trained(self, outcome: Outcome) -> None:
        """Take over where the training of the model ended."""
        self.measured(outcome)
        self.last = self.last.model_copy(
            update={
                "epoch": outcome.epochs,
                "epochs": self.epochs,
                "step": outcome.steps,
                "workers": outcome.workers,
                "resumed_from_epoch": outcome.resumed_from,
                "history": outcome.history,
                "metrics": last_losses(outcome.history),
            }
        )
        self.chosen = [*self.chosen, *outcome.chosen]

    def at(self, end: EpochEnd, now: float) -> ProgressReport:
        """The report of an epoch's end."""
        return ProgressReport(
            resource=self._config.resource,
            attempt=self._config.attempt,
            stage=Stage.TRAINING,
            epoch=end.epoch,
            epochs=self.epochs,
            step=end.step,
            workers=end.workers,
            resumed_from_epoch=end.resumed_from,
            metrics=losses(end.training, end.validation),
            history=end.history,
            spent=self.spent(end.checkpoint_seconds, end.unsaved_seconds),
            estimate=self._told,
        ).model_copy(update=self._share(end.epoch, now))

    def _share(self, epoch: int, now: float) -> dict[str, Any]:
        """What a report tells of the whole job, that epoch of the training being finished."""
        trained = self._trained(epoch)
        began_at, first = self._began or (now, trained)
        done = trained - first
        return {
            "percent": round(TRAINING_FROM + (TRAINING_TO - TRAINING_FROM) * trained, 2),
            "estimated_remaining_seconds": round((now - began_at) / done * (1 - trained), 1) if done else None,
            "fold": self.fold + 1 if self._folds else 0,
            "folds": self._folds,
            "trial": self._ended + 1 if self._ended < self._trials else 0,
            "search": self.search,
            "chosen": self.chosen,
        }

    @property
    def _folds(self) -> int:
        """Trainings of the model in all, or 0 without cross-validation."""
        wanted = self._config.evaluation.cross_validation
        return wanted.folds + 1 if wanted else 0

    def _trained(self, epoch: int) -> float:
        """Share of all training that is done, 0 to 1: each trial's trainings are those of the folds, or one."""
        of_model = max(1, self._folds)
        of_trial = max(1, self._folds - 1)
        done = self._ended * of_trial + self.fold + epoch / self.epochs
        return done / (self._trials * of_trial + of_model)


def losses(training: float, validation: float | None) -> dict[str, float]:
    """The losses of an epoch as reported metrics."""
    return {"Loss": training} if validation is None else {"Loss": training, "ValidationLoss": validation}


def last_losses(history: list[HistoryPoint]) -> dict[str, float]:
    """The losses of the last epoch as reported metrics."""
    return losses(history[-1].training, history[-1].validation) if history else {}
