"""Windows of rows that follow each other in time."""

from dataclasses import dataclass

import numpy as np

from eagleray_runtime.arrays import AnyArray, Integers
from eagleray_runtime.contract.blocks import Sequence
from eagleray_runtime.data.splitting import Parts
from eagleray_runtime.errors import DataInvalid


@dataclass(frozen=True)
class Series:
    """Where each row stands: int64 [rows] each.

    `source` is the file or files that it is from, `group` the series that it belongs to, `time` larger for what was later;
    none of the numbers means more than that.
    """

    source: Integers
    group: Integers
    time: Integers

    def take(self, rows: Integers) -> "Series":
        """The same of these rows, in this order."""
        return Series(self.source[rows], self.group[rows], self.time[rows])

    def by_time(self) -> Integers:
        """Row numbers in the order of time, those of the first source first."""
        return np.lexsort((self.time, self.source))


@dataclass(frozen=True)
class Windows:
    """Windows of a part: row numbers int64 [windows, steps], and int64 [windows] of the rows whose target each is to predict."""

    rows: Integers
    targets: Integers

    def of(self, values: AnyArray) -> AnyArray:
        """Rows of a matrix [rows, columns] as windows [windows, steps, columns]."""
        return values[self.rows]


def cut(series: Series, parts: Parts, wanted: Sequence) -> list[Windows]:
    """The windows of the training, validation and test part.

    A window has `windowSteps` rows of a series that follow each other; the last of them is `horizonSteps` before the row to
    predict. All these rows and those between are of one part, so that no part sees a row of another.

    Raises:
        DataInvalid: a part has rows but not enough of one series for a window.
    """
    part_of = np.full(len(series.time), -1)
    for number, rows in enumerate(parts):
        part_of[rows] = number
    order = np.lexsort((series.time, series.group, series.source))
    breaks = np.zeros(len(order), dtype=np.int64)
    for numbers in (series.source, series.group, part_of):
        breaks[1:] |= np.diff(numbers[order]) != 0
    run = np.cumsum(breaks)
    span = wanted.window_steps + wanted.horizon_steps
    starts = np.flatnonzero(run[: max(0, len(run) - span + 1)] == run[span - 1 :])
    of_part = part_of[order[starts]]
    found = []
    for number, (name, rows) in enumerate(parts._asdict().items()):
        begins = starts[of_part == number]
        if len(rows) and not len(begins):
            raise DataInvalid(
                f"the {name} part has {len(rows)} rows, and nowhere {span} of one series that follow each other: a window of "
                f"{wanted.window_steps} and the row to predict {wanted.horizon_steps} after it; give more rows, make "
                "data.sequence.windowSteps smaller, or change the shares of data.split"
            )
        found.append(Windows(order[begins[:, np.newaxis] + np.arange(wanted.window_steps)], order[begins + span - 1]))
    return found
