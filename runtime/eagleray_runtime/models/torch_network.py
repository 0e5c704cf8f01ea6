"""An architecture in torch."""

import torch

from eagleray_runtime.models.architecture import Architecture, Convolutional, Custom, Pretrained, Recurrent, Transformer
from eagleray_runtime.models.torch_convolutional import ConvolutionalNetwork
from eagleray_runtime.models.torch_custom import CustomNetwork
from eagleray_runtime.models.torch_dense import DenseNetwork
from eagleray_runtime.models.torch_module import TorchNetwork
from eagleray_runtime.models.torch_recurrent import RecurrentNetwork
from eagleray_runtime.models.torch_transformer import Decoder, Encoder


def torch_network(architecture: Architecture, dtype: torch.dtype = torch.float32) -> TorchNetwork:
    """The network of an architecture, with parameters that are still to be set."""
    if isinstance(architecture, Convolutional):
        return ConvolutionalNetwork(architecture, dtype)
    if isinstance(architecture, Recurrent):
        return RecurrentNetwork(architecture, dtype)
    if isinstance(architecture, Transformer):
        return Decoder(architecture, dtype) if architecture.pooling is None else Encoder(architecture, dtype)
    if isinstance(architecture, Pretrained):
        # Only here: Transformers takes seconds to import.
        from eagleray_runtime.models.torch_pretrained import PretrainedNetwork

        return PretrainedNetwork(architecture)
    if isinstance(architecture, Custom):
        return CustomNetwork(architecture, dtype)
    return DenseNetwork(architecture, dtype)
