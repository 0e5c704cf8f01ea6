"""How far a run is, and what its next epoch depends on beside parameters and optimiser; the same for both engines."""

import math
from dataclasses import dataclass, field
from typing import Any

from eagleray_runtime.contract.reports import Choice, HistoryPoint
from eagleray_runtime.errors import Diverged, ModelInvalid
from eagleray_runtime.training import metrics
from eagleray_runtime.training.history import History
from eagleray_runtime.training.patience import LOSS, Watched
from eagleray_runtime.training.plan import Plan

EXPLODED = 1e6
"""An epoch's loss in that of the first one, or in one unit of the scaled target if that is more, from which on training has
exploded. The first epoch saw the same rows, so that wild values among them count in both; what explodes grows by about the same
factor in each epoch, so that it is found whatever the first one came to."""


@dataclass
class Course:
    """The course of one run. Epochs and steps are counted as finished ones; losses are in the target's own unit."""

    plan: Plan
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    stopping: Watched = field(default_factory=Watched)
    plateau: Watched = field(default_factory=Watched)
    reductions: int = 0

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        schedule = self.plan.schedule
        return self.plan.optimizer.learning_rate * schedule.share(self.step) * float(schedule.factor**self.reductions)

    @property
    def is_over(self) -> bool:
        """Have all epochs been trained, or has there been no improvement for too long?"""
        return self.epoch >= self.plan.epochs or self._is_stopped

    @property
    def _is_stopped(self) -> bool:
        return self.plan.stop is not None and self.stopping.is_over(self.plan.stop)

    def end_epoch(self, training: float, validation: float | None, metric: float | None) -> bool:
        """Take what an epoch came to; is it the best one that `Plan.stop` has seen?

        Args:
            training: mean loss that the steps of the epoch saw.
            validation: loss of the validation part, None without one.
            metric: value of `Plan.stop_on` on the validation part where that is not the loss.

        Raises:
            Diverged: a loss is not finite, or that of the training part has exploded.
            ModelInvalid: the metric is not defined on the validation part.
        """
        self.epoch += 1
        self._require_sound(training, validation)
        self.history.add(HistoryPoint(epoch=self.epoch, training=training, validation=validation))
        held_out = training if validation is None else validation
        if self.plan.plateau is not None:
            self.plateau.saw(self.plan.plateau, self.epoch, held_out)
            if self.plateau.is_over(self.plan.plateau):
                self.reductions += 1
                self.plateau.waited = 0
        if self.plan.stop is None:
            return False
        value = held_out if self.plan.stop_on == LOSS or metric is None else metric
        self._require_defined(value)
        return self.stopping.saw(self.plan.stop, self.epoch, value)

    def _require_sound(self, training: float, validation: float | None) -> None:
        """Refuse to go on with losses that grow without end, or are no numbers, which JSON could not tell either."""
        advice = (
            f"set training.optimizer.learningRate below {self.plan.optimizer.learning_rate}, or data.preparation.scaling to "
            "Standard if it is None"
        )
        if not math.isfinite(training):
            raise Diverged(f"the loss became {training} in epoch {self.epoch}: {advice}")
        first = self.history.points[0].training if self.epoch > 1 else training
        if training > EXPLODED * max(first, self.plan.unit):
            raise Diverged(f"the loss grew from {first:.6g} in the first epoch to {training:.6g} in epoch {self.epoch}: {advice}")
        if validation is not None and not math.isfinite(validation):
            raise Diverged(
                f"the loss of the validation part became {validation} in epoch {self.epoch}, that of the training part "
                f"{training:.6g}: look for wild values in rows that were held out (data.preparation.outliers: IQR clips them); "
                f"if there are none, {advice}"
            )

    def _require_defined(self, value: float) -> None:
        """Refuse to wait for an improvement of what no epoch has defined."""
        if math.isfinite(value) or self.stopping.epoch:
            return
        name = self.plan.stop_on
        raise ModelInvalid(
            f"training.earlyStopping.metric {name} is not defined on the validation part, for it needs "
            f"{metrics.NEEDS.get(name, 'finite answers')} there: set it to Loss, or raise data.split.validationPercent"
        )

    @property
    def chosen(self) -> list[Choice]:
        """Which epoch the model is of, where that is not simply the last one."""
        if self.plan.stop is None:
            return []
        metric = self.plan.stop_on
        ended = f"{metric} did not improve for {self.stopping.waited} epochs" if self._is_stopped else "all were trained"
        reason = f"{ended}; the model is that of epoch {self.stopping.epoch}, with the best {metric} on the validation part"
        return [Choice(field="training.epochs", value=str(self.epoch), reason=reason)]

    def told(self) -> dict[str, Any]:
        """JSON values for a checkpoint."""
        return {
            "fingerprint": self.plan.fingerprint,
            "epoch": self.epoch,
            "step": self.step,
            "history": [point.model_dump(mode="json") for point in self.history.points],
            "stopping": self.stopping.told(),
            "plateau": self.plateau.told(),
            "reductions": self.reductions,
        }

    @classmethod
    def restored(cls, plan: Plan, told: dict[str, Any]) -> "Course | None":
        """Go on from what `told` gave; None if it is not one of this plan."""
        if told["fingerprint"] != plan.fingerprint:
            return None
        return cls(
            plan,
            told["epoch"],
            told["step"],
            History(HistoryPoint.model_validate(point) for point in told["history"]),
            Watched(**told["stopping"]),
            Watched(**told["plateau"]),
            told["reductions"],
        )
