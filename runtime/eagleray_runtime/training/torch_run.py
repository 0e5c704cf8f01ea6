"""One worker's run in torch: what a checkpoint holds and the next epoch depends on."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import ActivationCheckpointing, Compilation, OptimizerType, Precision, Strategy
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.training import devices
from eagleray_runtime.training.course import Course
from eagleray_runtime.training.devices import Device
from eagleray_runtime.training.first_network import first_network
from eagleray_runtime.training.optimizers import RMS_DECAY, Rule
from eagleray_runtime.training.plan import Plan
from eagleray_runtime.training.torch_parallel import Group, replicated, sharded, shared_as, whole

TENSORS, TOLD = "state.safetensors", "state.json"

HALVES = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}
"""Numbers of the matrix products alone."""

LOSS_SCALE = 2.0**10
"""What Float16's losses are multiplied by at first. Torch's own 2^16 costs the first steps, until it is found to be too much;
this one keeps gradients from 6e-11 on, and grows where it can."""

Tensors = dict[str, torch.Tensor]


class Run:
    """State of one worker.

    `network` holds the parameters, `model` is what computes a training step: the network itself, or what averages its gradients
    with the other workers'. `best` are parameters and buffers of the best epoch so far by name, where the plan looks for one.
    `dtype` is that of parameters and losses; `chosen` are choices that the device decided.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        rank: int,
        world: int,
        group: Group = None,
        start: Mapping[str, AnyArray] | None = None,
    ) -> None:
        """Begin with the parameters and buffers `start` by name, or with drawn ones."""
        self.plan, self.device, self.rank, self.world = plan, device, rank, world
        found = _device(device)
        self.precision, by_device = devices.precision(plan, found)
        self.strategy, by_memory = devices.strategy(plan, found, world)
        self.chosen: list[Choice] = [choice for choice in (by_device, by_memory) if choice is not None]
        self.dtype = torch.float64 if self.precision is Precision.FLOAT64 else torch.float32
        self.network = first_network(plan, start, self.dtype)
        if plan.parallelism.activation_checkpointing is ActivationCheckpointing.FULL:
            self.network.recompute()
        if plan.compile is Compilation.DEFAULT:
            self.network.compile()
        self.model: torch.nn.Module = self.network
        if world > 1 and self.strategy is Strategy.FSDP:
            sharded(self.network, group, plan.gradients.compression, device)
        self.network.to(device)
        if world > 1 and self.strategy is not Strategy.FSDP:
            self.model = replicated(self.network, group, plan.gradients.compression, plan.schedule.steps)
        self.optimizer = make_optimizer(plan.optimizer, self.network)
        self.scaler = torch.amp.GradScaler(device.type, LOSS_SCALE, enabled=self.precision is Precision.FLOAT16)
        self.course = Course(plan)
        self.best: Tensors = {}

    def autocast(self) -> AbstractContextManager[Any]:
        """In which the network computes with the numbers of the run's precision."""
        half = HALVES.get(self.precision)
        return nullcontext() if half is None else torch.autocast(self.device.type, half)

    def tensors(self) -> Tensors:
        """The tensors of the state by name, whole; every worker must ask for them."""
        tensors = {f"parameters.{name}": values for name, values in self.network.state_dict().items()}
        tensors |= {f"best.{name}": values for name, values in self.best.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
        return {name: whole(values) for name, values in tensors.items()}

    def save(self, folder: Path, tensors: Tensors | None = None) -> None:
        """Write the state as safetensors and JSON; `tensors` are those of `tensors`, asked for before."""
        found = self.tensors() if tensors is None else tensors
        save_file({name: values.cpu().contiguous() for name, values in found.items()}, folder / TENSORS)
        told = self.course.told() | {"scaler": self.scaler.state_dict()}
        (folder / TOLD).write_text(json.dumps(told, allow_nan=False), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Go on from a saved state, of however many workers, unless it is one of another plan."""
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        course = Course.restored(self.plan, told)
        if course is None:
            return
        self.course = course
        self.scaler.load_state_dict(told["scaler"])
        saved: dict[str, Tensors] = {"parameters": {}, "best": {}, "optimizer": {}}
        for name, value in load_file(folder / TENSORS).items():
            kind, _, rest = name.partition(".")
            saved[kind][rest] = value
        own = self.network.state_dict()
        self.network.load_state_dict({name: shared_as(value, own[name]) for name, value in saved["parameters"].items()})
        self.best = {name: shared_as(value.to(self.device), own[name]) for name, value in saved["best"].items()}
        parameters = list(self.network.parameters())
        state: dict[int, Tensors] = {}
        for name, value in saved["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = shared_as(value, parameters[int(index)])
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def keep_best(self) -> None:
        """Keep the parameters as those of the best epoch."""
        self.best = {name: values.detach().clone() for name, values in self.network.state_dict().items()}

    def finished(self) -> Tensors:
        """Parameters and buffers of the model by name, whole; every worker must ask for them, once, when it is trained."""
        state = {name: whole(values) for name, values in (self.best or self.network.state_dict()).items()}
        return dict(self.network.whole(state))

    def told_history(self) -> list[dict[str, Any]]:
        """The history as JSON values."""
        return [point.model_dump(mode="json") for point in self.course.history.points]


def make_optimizer(rule: Rule, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The torch optimiser of a rule."""
    parameters, rate, decay = network.parameters(), rule.learning_rate, rule.weight_decay
    betas = (rule.beta1, rule.beta2)
    match rule.type:
        case OptimizerType.ADAM:
            return torch.optim.Adam(parameters, rate, betas, rule.epsilon, decay, fused=True)
        case OptimizerType.ADAM_W:
            return torch.optim.AdamW(parameters, rate, betas, rule.epsilon, decay, fused=True)
        case OptimizerType.RMS_PROP:
            return torch.optim.RMSprop(parameters, rate, RMS_DECAY, rule.epsilon, decay, rule.momentum)
        case OptimizerType.ADAGRAD:
            return torch.optim.Adagrad(parameters, rate, weight_decay=decay, eps=rule.epsilon)
        case _:
            return torch.optim.SGD(parameters, rate, rule.momentum, weight_decay=decay, nesterov=rule.nesterov)


def _device(device: torch.device) -> Device:
    if device.type != "cuda":
        return Device(device.type)
    memory = torch.cuda.get_device_properties(device).total_memory
    return Device(device.type, memory, torch.cuda.is_bf16_supported(including_emulation=False))
