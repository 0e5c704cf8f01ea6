"""What the device that trains decides, where the spec leaves it open."""

import math
from collections import Counter
from dataclasses import dataclass

from eagleray_runtime.contract.blocks import Compression, FineTuning, LoRA, OptimizerType, Precision, Strategy
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.models.architecture import Custom, Dense, Pretrained
from eagleray_runtime.training.plan import Plan, needs_gpu

MOMENTS = {
    OptimizerType.ADAM: 2,
    OptimizerType.ADAM_W: 2,
    OptimizerType.RMS_PROP: 1,
    OptimizerType.ADAGRAD: 1,
}
"""Numbers that an optimiser remembers of each parameter, beside momentum."""

LARGEST_SHARE = 0.5
"""Share of a GPU's memory that the state of training may take; the rest is for what layers say and for CUDA itself."""


@dataclass(frozen=True)
class Device:
    """A worker's device: its `type` as torch names it, and of a GPU its memory in bytes and whether it computes in BFloat16."""

    type: str
    memory: int = 0
    has_bfloat16: bool = False


def precision(plan: Plan, device: Device) -> tuple[Precision, Choice | None]:
    """Numbers to compute in, and the choice to tell where it is ours."""
    field = "training.precision"
    if device.type == "cpu" and needs_gpu(plan.architecture, plan.precision):
        why = f"CUDA finds no GPU, and a CPU may have no LSTM in {plan.precision}"
        return Precision.FLOAT32, Choice(field=field, value=Precision.FLOAT32, reason=why)
    if plan.precision is not Precision.AUTO:
        return plan.precision, None
    chosen, reason = Precision.FLOAT32, "on a CPU shorter numbers are not faster"
    if device.type != "cpu":
        if isinstance(plan.architecture, Dense):
            reason = "of dense layers alone, rounding costs more than it saves"
        elif device.has_bfloat16:
            chosen, reason = Precision.BFLOAT16, "the GPU multiplies faster in it; losses and parameters stay in Float32"
        else:
            reason = "the GPU does not compute in BFloat16"
    return chosen, Choice(field=field, value=chosen, reason=reason)


def strategy(plan: Plan, device: Device, workers: int) -> tuple[Strategy, Choice | None]:
    """What each of several workers holds, and the choice to tell where it is ours."""
    if plan.parallelism.strategy is not Strategy.AUTO or workers == 1:
        return plan.parallelism.strategy, None
    if isinstance(plan.architecture, Pretrained | Custom):
        whose = "a pretrained model" if isinstance(plan.architecture, Pretrained) else "a network of your own"
        reason = f"{whose} is not shared out"
        return Strategy.DDP, Choice(field="training.parallelism.strategy", value=Strategy.DDP, reason=reason)
    if plan.gradients.compression is Compression.POWER_SGD:
        reason = "PowerSGD needs whole matrices, which FSDP cuts"
        return Strategy.DDP, Choice(field="training.parallelism.strategy", value=Strategy.DDP, reason=reason)
    needed = state_bytes(plan)
    chosen, reason = Strategy.DDP, f"model, gradients and optimiser take {_gib(needed)}, which each worker holds"
    if device.memory and needed > LARGEST_SHARE * device.memory:
        chosen, reason = Strategy.FSDP, f"they take {_gib(needed)}, more than half of a GPU's {_gib(device.memory)}"
    return chosen, Choice(field="training.parallelism.strategy", value=chosen, reason=reason)


def state_bytes(plan: Plan) -> int:
    """Bytes of parameters, gradients, what the optimiser remembers, and the best epoch's parameters where they are kept."""
    rule = plan.optimizer
    copies = 1 + MOMENTS.get(rule.type, 0) + (rule.momentum > 0) + (plan.stop is not None)
    return (plan.architecture.parameters + _learned(plan) * copies) * (8 if plan.precision is Precision.FLOAT64 else 4)


def _learned(plan: Plan) -> int:
    """Parameters that have gradients: all, those behind the model itself, or about LoRA's two matrices beside each layer."""
    tuning = plan.tuning
    if tuning is None or tuning.method is FineTuning.FULL:
        return plan.architecture.parameters
    if tuning.method is FineTuning.HEAD_ONLY:
        sizes: Counter[str] = Counter()
        for name, shape in plan.architecture.shapes.items():
            sizes[name.partition(".")[0]] += math.prod(shape)
        return plan.architecture.parameters - max(sizes.values())
    lora = tuning.lora or LoRA()
    ends = tuple(f"{name}.weight" for name in lora.target_modules) if lora.target_modules else ("",)
    matrices = [shape for name, shape in plan.architecture.shapes.items() if len(shape) == 2 and name.endswith(ends)]
    return lora.rank * sum(map(sum, matrices))


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"
