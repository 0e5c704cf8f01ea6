"""One network on several workers: whole on each of them (DDP) or shared out between them (FSDP2).

A gradient is the mean of the workers' gradients in both. What is shared out is a DTensor; `whole` and `shared_as` turn it into
a plain tensor and back, so that checkpoints and bundles know nothing of workers.
"""

from collections.abc import Iterator
from typing import TypeAlias

import torch
import torch.distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from eagleray_runtime.contract.blocks import Compression
from eagleray_runtime.models.torch_batch import BatchNormalization

REDUCED = {Compression.FLOAT16: torch.float16, Compression.BFLOAT16: torch.bfloat16}
HOOKS = {Compression.FLOAT16: default_hooks.fp16_compress_hook, Compression.BFLOAT16: default_hooks.bf16_compress_hook}

POWER_SGD_RANK = 2
"""Columns of the narrow matrices; from 2 on Vogels et al. (2019) came to the accuracy of plain SGD."""

Group: TypeAlias = torch.distributed.ProcessGroup | None
"""The workers; None is the group of all of them that is there already."""


def replicated(network: torch.nn.Module, group: Group, compression: Compression, steps: int) -> DistributedDataParallel:
    """The network as each worker holds it whole, which has the same parameters and takes part in averaging gradients.

    Args:
        network: on the device that computes.
        group: the workers.
        compression: of gradients.
        steps: of the whole training.
    """
    _share_statistics(network, group)
    model = DistributedDataParallel(network, process_group=group, gradient_as_bucket_view=True)
    if compression is Compression.POWER_SGD:
        # With what is left out carried over, torch wants two whole steps at least.
        state = powerSGD_hook.PowerSGDState(group, POWER_SGD_RANK, start_powerSGD_iter=max(2, steps // 10))
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif compression is not Compression.NONE:
        model.register_comm_hook(group, HOOKS[compression])
    return model


def sharded(network: torch.nn.Module, group: Group, compression: Compression, device: torch.device) -> None:
    """Share the parameters of the network out between the workers, in place.

    What stands in a list of modules, which are the layers that a network repeats, is fetched and given back by itself; all other
    parameters come and go with the whole network.
    """
    _share_statistics(network, group)
    mesh = DeviceMesh.from_group(group or torch.distributed.group.WORLD, device.type)
    policy = MixedPrecisionPolicy(reduce_dtype=REDUCED.get(compression))
    # What is within comes first. Given back after each pass, so that parameters are always the workers' parts.
    for module in (*_repeated(network), network):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor; of one that is shared out every worker must ask for it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_as(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor shared out as another one of its shape is; the tensor itself where that is not shared out."""
    if isinstance(other, DTensor) and other.shape == tensor.shape:
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor


def interleaved(share: torch.Tensor, rows: int, workers: int) -> torch.Tensor:
    """All rows in their order, of which each worker has every `workers`-th one; on the CPU, through the group of all workers.

    Args:
        share: this worker's rows [rows of the worker, ...]. rows: of all workers.
    """
    if workers == 1:
        return share
    most = -(-rows // workers)
    padded = torch.cat([share, share.new_zeros((most - len(share), *share.shape[1:]))]).contiguous()
    shares = [torch.empty_like(padded) for _ in range(workers)]
    torch.distributed.all_gather(shares, padded)
    return torch.stack(shares, dim=1).flatten(0, 1)[:rows]


def _repeated(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The entries of the outermost lists of modules, those that have parameters."""
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from _repeated(child)


def _share_statistics(network: torch.nn.Module, group: Group) -> None:
    for module in network.modules():
        if isinstance(module, BatchNormalization):
            module.share(group)
