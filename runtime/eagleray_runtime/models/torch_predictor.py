"""The torch engine of a finished model."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch

from eagleray_runtime.arrays import AnyArray, Floats
from eagleray_runtime.models.architecture import Architecture
from eagleray_runtime.models.torch_network import torch_network


class TorchPredictor:
    """Computes in float32, on the GPU where there is one."""

    def __init__(self, architecture: Architecture, parameters: Mapping[str, AnyArray]) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = torch_network(architecture)
        self._network.set_parameters(parameters)
        self._network.to(self.device).eval()

    def __call__(self, x: AnyArray) -> Floats:
        """Outputs before the head, float64 [rows, outputs]."""
        with torch.inference_mode():
            rows = x if x.dtype.kind == "i" else x.astype(np.float32)
            outputs = self._network.in_pieces(torch.from_numpy(rows).to(self.device))
            return cast(Floats, outputs.double().cpu().numpy())
