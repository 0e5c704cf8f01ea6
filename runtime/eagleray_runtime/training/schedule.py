"""The learning rate over the steps of a run: a function of the step alone, so that a resumed run goes on at the same rate.

ReduceOnPlateau depends on the losses as well and is in `patience`.
"""

import math

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import Block, ScheduleType

FACTOR, EXPONENTIAL_FACTOR, EVERY_EPOCHS = 0.1, 0.95, 10
RISE, START, END = 0.3, 1 / 25, 1 / 25e4
"""OneCycle: share of the steps in which the rate rises, and its first and last value as shares of the highest one (torch's)."""


class Schedule(Block):
    """A schedule with everything decided; steps are counted from 0."""

    type: ScheduleType
    steps: int
    steps_per_epoch: int
    warm_up_steps: int = 0
    factor: float = FACTOR
    every_epochs: int = EVERY_EPOCHS

    def share(self, step: int) -> float:
        """Which share of the optimiser's learning rate a step takes."""
        if step < self.warm_up_steps:
            return (step + 1) / (self.warm_up_steps + 1)
        epoch = step // self.steps_per_epoch
        left = self.steps - self.warm_up_steps
        done = (step - self.warm_up_steps) / left
        match self.type:
            case ScheduleType.STEP:
                return float(self.factor ** (epoch // self.every_epochs))
            case ScheduleType.EXPONENTIAL:
                return float(self.factor**epoch)
            case ScheduleType.LINEAR:
                return 1.0 - done
            case ScheduleType.COSINE:
                return _cosine(1.0, 0.0, done)
            case ScheduleType.ONE_CYCLE:
                return self._one_cycle(step)
            case _:
                return 1.0

    def _one_cycle(self, step: int) -> float:
        """Smith and Topin 2017 with half cosines, as torch's OneCycleLR has it: the last step has the lowest rate."""
        top, last = RISE * self.steps - 1, self.steps - 1
        if step <= top:
            return _cosine(START, 1.0, step / top)
        return _cosine(1.0, END, (step - top) / (last - top)) if last > top else 1.0


def _cosine(begin: float, end: float, share: float) -> float:
    """Half a cosine from one value to another (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def decide(schedule: blocks.Schedule, steps_per_epoch: int, epochs: int) -> Schedule:
    """Complete what the spec leaves open, for a run of so many steps."""
    steps = steps_per_epoch * epochs
    unset = EXPONENTIAL_FACTOR if schedule.type is ScheduleType.EXPONENTIAL else FACTOR
    return Schedule(
        type=schedule.type,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        warm_up_steps=steps * schedule.warmup_percent // 100,
        factor=schedule.factor or unset,
        every_epochs=schedule.every_epochs or EVERY_EPOCHS,
    )
