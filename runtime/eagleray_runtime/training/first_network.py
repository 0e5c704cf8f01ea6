"""What training in torch begins with."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.models.architecture import Custom, Pretrained
from eagleray_runtime.models.initialization import initial_parameters
from eagleray_runtime.models.torch_module import TorchNetwork
from eagleray_runtime.models.torch_network import torch_network
from eagleray_runtime.storage import Store
from eagleray_runtime.training.plan import Plan


def first_network(plan: Plan, start: Mapping[str, AnyArray] | None, dtype: torch.dtype) -> TorchNetwork:
    """The network of a plan before its first step: with the parameters and buffers `start` by name, with the weights of a
    pretrained model, or drawn by the seed; a network of the user's own draws them itself.

    Raises:
        ModelInvalid: the pretrained model is not what its configuration says.
        StoreRefused: it cannot be fetched.
        UserCodeFailed: code of the user's own ends with an error.
    """
    architecture = plan.architecture
    network: TorchNetwork
    if isinstance(architecture, Custom):
        # Its layers draw their own weights: the same on each worker and in each attempt.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            network = torch_network(architecture, dtype)
        if start is not None:
            network.set_parameters(start)
        return network
    if not isinstance(architecture, Pretrained) or plan.base is None or plan.tuning is None:
        network = torch_network(architecture, dtype)
        network.set_parameters(start or initial_parameters(architecture, plan.initialization, plan.seed))
        return network
    # Only here: Transformers and peft take seconds to import.
    from eagleray_runtime.models import torch_tuning

    with tempfile.TemporaryDirectory() as folder:
        torch_tuning.fetch(Store(plan.base), Path(folder))
        network = torch_tuning.begun(architecture, Path(folder), plan.tuning, plan.seed)
    network.to(dtype)
    return network
