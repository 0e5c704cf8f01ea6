"""Every value that the engines need, decided once; what the runtime chose is told with its reason."""

import hashlib
import json

from eagleray_runtime.contract.blocks import Block, OptimizerType
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.models.architecture import Architecture, Head, build
from eagleray_runtime.models.initialization import method

BATCH_ROWS = 32
ADAM_RATE, DESCENT_RATE = 0.001, 0.01


class Plan(Block):
    """What one training run does.

    `batch_rows` are the rows of one step over all workers; `unit` turns a loss of scaled targets into the target's own
    unit; `fingerprint` is the same for two runs only if a checkpoint of one continues the other.
    """

    architecture: Architecture
    optimizer: OptimizerType
    learning_rate: float
    batch_rows: int
    epochs: int
    seed: int
    unit: float
    fingerprint: str


def decide(config: TrainingConfig, dataset: Dataset) -> tuple[Plan, list[Choice]]:
    """Decide what the spec leaves open."""
    chosen = []
    training = config.training
    head: Head = "Softmax" if dataset.task == "Classification" else "Identity"
    architecture = build(config.model, dataset.inputs, dataset.outputs, head)
    optimizer = training.optimizer.type
    if optimizer is OptimizerType.AUTO:
        optimizer = OptimizerType.ADAM
        chosen.append(
            Choice(field="training.optimizer.type", value=optimizer, reason="converges without tuning on most problems")
        )
    rate = training.optimizer.learning_rate
    if rate is None:
        rate = ADAM_RATE if optimizer is OptimizerType.ADAM else DESCENT_RATE
        chosen.append(Choice(field="training.optimizer.learningRate", value=str(rate), reason=f"the default of {optimizer}"))
    rows = dataset.training.rows
    if optimizer is OptimizerType.GRADIENT_DESCENT:
        batch = rows
    elif training.batch_size is None:
        batch = min(BATCH_ROWS, rows)
        chosen.append(Choice(field="training.batchSize", value=str(batch), reason="the default, over all workers"))
    else:
        batch = min(training.batch_size, rows)
    name, reason = method(architecture)
    chosen.append(Choice(field="model.initialization.method", value=name, reason=reason))
    return (
        Plan(
            architecture=architecture,
            optimizer=optimizer,
            learning_rate=rate,
            batch_rows=batch,
            epochs=training.epochs,
            seed=training.seed,
            unit=dataset.preparation.target.scale**2,
            fingerprint=_fingerprint(config, dataset, architecture, optimizer, rate, batch),
        ),
        chosen,
    )


def _fingerprint(
    config: TrainingConfig, dataset: Dataset, architecture: Architecture, optimizer: OptimizerType, rate: float, batch: int
) -> str:
    parts = [
        config.engine,
        config.training.seed,
        dataset.report.digest,
        dataset.preparation.model_dump(mode="json"),
        config.data.split.model_dump(mode="json"),
        architecture.model_dump(mode="json"),
        optimizer,
        rate,
        batch,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
