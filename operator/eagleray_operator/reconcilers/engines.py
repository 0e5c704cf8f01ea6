"""Which engine computes, where the user leaves it to us."""

from typing import Literal

from eagleray_operator.api.modeldeployment import ModelDeploymentSpec
from eagleray_operator.api.trainingjob import TrainingJobSpec
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.blocks import TORCH_FAMILIES, Engine, Family
from eagleray_runtime.contract.reports import Choice

Decided = Literal[Engine.NUMPY, Engine.TORCH]


def for_training(spec: TrainingJobSpec) -> tuple[Decided, Choice | None]:
    """Engine of a job, and the choice to tell where it is ours."""
    if spec.training.engine is not Engine.AUTO:
        return spec.training.engine, None
    if spec.model.family in TORCH_FAMILIES:
        return Engine.TORCH, Choice(field="training.engine", value="Torch", reason=f"only torch has {spec.model.family}")
    if spec.workers.gpus or spec.workers.most > 1:
        why = "the workers have GPUs" if spec.workers.gpus else "there may be more than one worker"
        return Engine.TORCH, Choice(field="training.engine", value="Torch", reason=why)
    if needed := spec.training.needs_torch:
        return Engine.TORCH, Choice(field="training.engine", value="Torch", reason=f"only torch has {needed}")
    return Engine.NUMPY, Choice(
        field="training.engine", value="NumPy", reason="one worker without GPU: it starts faster and needs no torch"
    )


def for_serving(spec: ModelDeploymentSpec, family: Family | None) -> tuple[Decided, Choice | None]:
    """Engine of a deployment, and the choice to tell where it is ours; `family` is that of the job that it follows."""
    if spec.engine.type is not Engine.AUTO:
        return spec.engine.type, None
    if family in TORCH_FAMILIES:
        return Engine.TORCH, Choice(field="engine.type", value="Torch", reason=f"only torch has {family}")
    if spec.resources.gpus:
        return Engine.TORCH, Choice(field="engine.type", value="Torch", reason="the replicas have GPUs")
    return Engine.NUMPY, Choice(field="engine.type", value="NumPy", reason="no GPU: it answers faster and needs no torch")


def image(engine: Decided, named: str | None, settings: Settings) -> str:
    """Image of the pods: the one that the user names, else the platform's for the engine."""
    if named:
        return named
    return settings.images.torch if engine is Engine.TORCH else settings.images.numpy
