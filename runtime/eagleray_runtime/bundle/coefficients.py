"""A linear model in the original units of its columns and target."""

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.manifest import Coefficients
from eagleray_runtime.data.preparation import Preparation


def original_units(preparation: Preparation, weight: AnyArray, bias: AnyArray, outputs: list[str]) -> list[Coefficients]:
    """Undo the scaling: with x' = (x - m)/s and y' = (y - n)/t, the weight is t w/s and the intercept n + t (b - sum w m/s).

    Args:
        preparation: the fitted preparation.
        weight: float [outputs, prepared columns]. bias: float [outputs].
        outputs: their names: the target of regression, or the classes whose logits or scores they are.
    """
    offset = np.array([affine.offset for affine in preparation.affines])
    scale = np.array([affine.scale for affine in preparation.affines])
    unit = preparation.target
    weights = unit.scale * weight / scale
    intercepts = unit.offset + unit.scale * bias - weights @ offset
    return [
        Coefficients(
            output=output,
            intercept=float(intercept),
            weights=dict(zip(preparation.outputs, (float(value) for value in row), strict=True)),
        )
        for output, intercept, row in zip(outputs, intercepts, weights, strict=True)
    ]
