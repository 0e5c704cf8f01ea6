"""An architecture in torch."""

import torch

from eagleray_runtime.models.architecture import Architecture, Convolutional, Recurrent
from eagleray_runtime.models.torch_convolutional import ConvolutionalNetwork
from eagleray_runtime.models.torch_dense import DenseNetwork
from eagleray_runtime.models.torch_module import TorchNetwork
from eagleray_runtime.models.torch_recurrent import RecurrentNetwork


def torch_network(architecture: Architecture, dtype: torch.dtype = torch.float32) -> TorchNetwork:
    """The network of an architecture, with parameters that are still to be set."""
    if isinstance(architecture, Convolutional):
        return ConvolutionalNetwork(architecture, dtype)
    if isinstance(architecture, Recurrent):
        return RecurrentNetwork(architecture, dtype)
    return DenseNetwork(architecture, dtype)
