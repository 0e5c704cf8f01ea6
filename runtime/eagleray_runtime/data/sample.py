"""The reference example, which the runtime makes itself."""

import numpy as np

from eagleray_runtime.data.table import Column, Kind, Table

POINTS = 100


def linear_regression(seed: int) -> Table:
    """100 points of y = 3x + 2 + noise with x and noise uniform in [0, 1): columns `x` and `y`.

    The noise has the mean 0.5, so a least-squares line is near y = 3x + 2.5.
    """
    random = np.random.default_rng(seed)
    x = random.random(POINTS)
    y = 3 * x + 2 + random.random(POINTS)
    return Table({"x": Column(Kind.REAL, x), "y": Column(Kind.REAL, y)})
