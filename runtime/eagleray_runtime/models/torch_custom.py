"""Networks of the user's own in torch."""

from typing import Any

import torch
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.errors import UserCodeFailed
from eagleray_runtime.models.architecture import Custom
from eagleray_runtime.models.code import failed, function
from eagleray_runtime.models.torch_module import WrappedNetwork, own_state


def made(architecture: Custom) -> torch.nn.Module:
    """The module that the user's function returns, with the first weights that it draws.

    Raises:
        UserCodeFailed: it ends with an error, or returns something else.
    """
    entrypoint, sources = architecture.entrypoint, architecture.sources
    call = function(entrypoint, sources)
    try:
        module = call(inputs=architecture.inputs, outputs=architecture.outputs, parameters=dict(architecture.arguments))
    except Exception as error:
        raise failed(f"model.custom.entrypoint {entrypoint} ended with an error", error, sources) from error
    if not isinstance(module, torch.nn.Module):
        raise UserCodeFailed(
            f"model.custom.entrypoint {entrypoint} returned an object of type {type(module).__name__}: return a torch.nn.Module"
        )
    if any(isinstance(values, UninitializedParameter) for values in module.parameters()):
        raise UserCodeFailed(
            f"model.custom.entrypoint {entrypoint} returned layers without their size: use inputs instead of lazy layers"
        )
    if not any(values.requires_grad for values in module.parameters()):
        raise UserCodeFailed(
            f"model.custom.entrypoint {entrypoint} returned a module without parameters: there is nothing to learn"
        )
    return module


def described(architecture: Custom, x: AnyArray) -> Custom:
    """The architecture with what its module shows on a few rows: weights, buffers, and its widest layer.

    Raises:
        UserCodeFailed: as `made`, or its outputs are not [rows, outputs], or no gradient goes back through them.
    """
    rows = _given(architecture, torch.from_numpy(x if x.dtype.kind == "i" else x.astype("float32")))
    widest = max(rows[0].numel(), architecture.outputs)

    def measure(_module: torch.nn.Module, _inputs: Any, outputs: Any) -> None:
        nonlocal widest
        if isinstance(outputs, torch.Tensor):
            widest = max(widest, outputs.numel() // len(rows))

    with torch.random.fork_rng(devices=[]):
        module = made(architecture).float()
        state, learned = own_state(module), dict(module.named_parameters())
        for each in module.modules():
            each.register_forward_hook(measure)
        for is_training in (True, False):
            _try(module.train(is_training), rows, architecture)
    return architecture.model_copy(
        update={
            "weights": {name: list(values.shape) for name, values in state.items() if name in learned},
            "statistics": {name: list(values.shape) for name, values in state.items() if name not in learned},
            "width": widest,
        }
    )


def _try(module: torch.nn.Module, rows: torch.Tensor, architecture: Custom) -> None:
    """Compute rows as a step of training does, or as an answer."""
    what = f"the network of model.custom.entrypoint {architecture.entrypoint}"
    try:
        outputs = module(rows)
        if isinstance(outputs, torch.Tensor) and module.training:
            outputs.sum().backward()
    except Exception as error:
        raise failed(f"{what} failed on rows {list(rows.shape)}", error, architecture.sources) from error
    wanted = [len(rows), architecture.outputs]
    found = list(outputs.shape) if isinstance(outputs, torch.Tensor) else f"an object of type {type(outputs).__name__}"
    if found != wanted:
        raise UserCodeFailed(
            f"{what} took rows {list(rows.shape)} to {found} instead of {wanted}: return a module that gives [rows, outputs]"
        )


def _given(architecture: Custom, x: torch.Tensor) -> torch.Tensor:
    """Rows as the user's module takes them: tokens as int64 [rows, inputs[0]], 0 where there is none."""
    if x.is_floating_point() or isinstance(architecture.inputs, int):
        return x
    return functional.pad(x.clamp(min=0), (0, architecture.inputs[0] - x.shape[1])).long()


class CustomNetwork(WrappedNetwork):
    """A network of the user's own, whose state is that of the user's module."""

    def __init__(self, architecture: Custom, dtype: torch.dtype) -> None:
        super().__init__(architecture)
        self.model = made(architecture).to(dtype)
        self._architecture = architecture
        self._what = f"the network of model.custom.entrypoint {architecture.entrypoint} failed"
        self._sources = architecture.sources

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs [rows, outputs] of the rows `x`.

        Raises:
            UserCodeFailed: the user's module ends with an error.
        """
        try:
            outputs: torch.Tensor = self.model(_given(self._architecture, x))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise failed(self._what, error, self._sources) from error
        return outputs
