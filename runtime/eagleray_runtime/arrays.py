"""Names for the array types that modules hand to each other."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
"""Real numbers; NaN stands for a missing one wherever missing is allowed."""

Integers: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Texts: TypeAlias = npt.NDArray[np.object_]
"""Strings; None stands for a missing one."""

Tokens: TypeAlias = npt.NDArray[np.int32]
"""Pieces of text by their numbers in a vocabulary."""

PADDING = -1
"""No token: what fills rows of tokens up to one length."""

AnyArray: TypeAlias = npt.NDArray[Any]
