"""Scaling of numbers: an offset and a scale, fitted to the training part."""

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Block, Scaling


class Affine(Block):
    """`prepared = (value - offset) / scale`."""

    offset: float = 0.0
    scale: float = 1.0


def fitted(values: AnyArray, scaling: Scaling) -> Affine:
    """The scaling of numbers of which none is missing, any shape with at least one row."""
    match scaling:
        case Scaling.STANDARD:
            offset, scale = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        case Scaling.MIN_MAX:
            offset, scale = float(values.min()), float(values.max()) - float(values.min())
        case Scaling.ROBUST:
            low, middle, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
            offset, scale = middle, high - low
        case Scaling.NONE:
            return Affine()
    # Numbers that never change are left as they are, at zero.
    return Affine(offset=offset, scale=scale if scale > 0 else 1.0)
