"""Every value that the engines need, decided once; what the runtime chose is told with its reason."""

import hashlib
import json
import math
from dataclasses import dataclass, field

from pydantic import Field

from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import (
    ActivationCheckpointing,
    Augmentation,
    Block,
    Cell,
    Checkpoint,
    ClassWeights,
    Compilation,
    Compression,
    Engine,
    EvaluatedPart,
    Evaluation,
    Family,
    Gradients,
    Initialization,
    InitializationMethod,
    LossType,
    OptimizerType,
    Parallelism,
    Precision,
    ScheduleType,
    Strategy,
)
from eagleray_runtime.contract.config import Location, TrainingConfig
from eagleray_runtime.contract.reports import Choice
from eagleray_runtime.data.dataset import Dataset
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models import initialization
from eagleray_runtime.models.architecture import (
    Architecture,
    Convolutional,
    Custom,
    Dense,
    Pretrained,
    Recurrent,
    Transformer,
    build,
    custom,
    pretrained,
)
from eagleray_runtime.models.losses import Loss, balanced
from eagleray_runtime.training import metrics, schedule
from eagleray_runtime.training.optimizers import Rule
from eagleray_runtime.training.patience import LOSS, Patience
from eagleray_runtime.training.schedule import Schedule
from eagleray_runtime.training.starting import require_like

BATCH_ROWS, FEWEST_BATCH_ROWS, BATCHES = 32, 4, 4
"""Rows of a step; of a dense network, of which few rows would else be one step an epoch, at most the rows of so many steps."""
ADAM_RATE, PERCEPTRON_RATE, OTHER_RATE = 0.001, 1.0, 0.01
ADAMS = (OptimizerType.ADAM, OptimizerType.ADAM_W)
DENSE = (Family.LINEAR_REGRESSION, Family.LOGISTIC_REGRESSION, Family.MULTILAYER_PERCEPTRON)
ADAM_WAY, LARGEST_ADAM_RATE = 2.0, 0.03
"""How far a weight of a dense network may come in a whole training, and the rate that is not exceeded for it.

A step of Adam is about as long as its rate, whatever the gradient (Kingma and Ba 2015, section 2.1), so that at 0.001 the 80
steps of 20 epochs of 120 rows would leave the weights about where they were drawn."""
ADAGRAD_EPSILON, ADAM_W_DECAY = 1e-10, 0.01
"""Torch's defaults, where they are not those of the others."""

CHECKPOINT_SECONDS = 10
"""So often is a checkpoint written where the spec says nothing: a lost attempt loses about this much work."""

PROBED_ROWS = 4
"""Rows that a network of the user's own is tried on before it is trained."""

PLATEAU_THRESHOLD = 1e-4
"""Share of the best loss by which another one must be lower to count; torch's default."""


class Plan(Block):
    """What one training run does.

    `start` is the digest of the bundle whose weights are taken instead of drawn ones, `base` where a pretrained model is and
    `tuning` how it is learned further. `batch_rows` are the rows of one step over all workers, each of `row_numbers` numbers;
    `lanes` is in how many lanes they are streamed and `chunk_rows` how many are read at a time, both 0 where they are in memory;
    `unit` turns a loss of scaled targets into the target's own unit. `stop_on` is the metric of `stop`, which is None when all
    epochs are trained; `plateau` is that of ReduceOnPlateau. `precision` and `parallelism.strategy` may be Auto: the device that
    trains decides. `metrics` are those to tell of the finished model. `fingerprint` is the same for two runs only if a checkpoint
    of one continues the other.
    """

    architecture: Architecture
    initialization: Initialization
    start: str | None = None
    loss: Loss
    optimizer: Rule
    schedule: Schedule
    gradients: Gradients = Gradients()
    precision: Precision = Precision.AUTO
    compile: Compilation = Compilation.NONE
    parallelism: Parallelism = Parallelism()
    batch_rows: int
    lanes: int = 0
    chunk_rows: int = 0
    row_numbers: int = 1
    epochs: int
    seed: int
    unit: float
    augmentation: Augmentation = Augmentation.NONE
    stop: Patience | None = None
    stop_on: str = LOSS
    plateau: Patience | None = None
    metrics: list[str] = Field(default_factory=list)
    checkpoint: Checkpoint = Checkpoint()
    base: Location | None = None
    tuning: blocks.Pretrained | None = None
    fingerprint: str = ""

    def is_checkpoint(self, epoch: int, seconds: float) -> bool:
        """Whether to save the state after that epoch, so many seconds after the last time."""
        if self.checkpoint.every_epochs is not None:
            return epoch % self.checkpoint.every_epochs == 0
        return seconds >= (self.checkpoint.every_seconds or CHECKPOINT_SECONDS)


@dataclass
class _Chosen:
    """Collects what was decided where the spec leaves a value open."""

    choices: list[Choice] = field(default_factory=list)

    def add(self, name: str, value: object, reason: str) -> None:
        self.choices.append(Choice(field=name, value=str(value), reason=reason))


def decide(config: TrainingConfig, dataset: Dataset) -> tuple[Plan, list[Choice]]:
    """Decide what the spec leaves open.

    Raises:
        ModelInvalid: what the spec asks for does not go with the data.
        UserCodeFailed: code of the user's own makes no network for them.
    """
    chosen = _Chosen()
    start = dataset.start
    training, rows = config.training, dataset.training.rows
    loss = _loss(training.loss, dataset, chosen)
    architecture = _architecture(config, dataset, loss.type)
    if start is not None:
        require_like(start, architecture)
        chosen.add("model.startFrom", start.digest, f"the model at {start.uri}")
    optimizer_type = _optimizer_type(training.optimizer, config.model.family, chosen)
    batch = _batch(config, optimizer_type, rows, chosen)
    steps = training.epochs * math.ceil(rows / batch)
    optimizer = _optimizer(training.optimizer, optimizer_type, config.model.family, steps, chosen)
    plan = Plan(
        architecture=architecture,
        initialization=_initialization(
            config.model.initialization,
            architecture,
            chosen,
            is_drawn=start is None and not isinstance(architecture, Pretrained | Custom),
        ),
        start=start.digest if start else None,
        loss=loss,
        optimizer=optimizer,
        schedule=schedule.decide(training.schedule, math.ceil(rows / batch), training.epochs),
        gradients=training.gradients,
        precision=_precision(config, architecture, chosen),
        compile=training.compile,
        parallelism=_parallelism(config, architecture),
        batch_rows=batch,
        lanes=config.workers.max if dataset.chunk_rows else 0,
        chunk_rows=dataset.chunk_rows,
        row_numbers=math.prod(dataset.training.shape),
        epochs=training.epochs,
        seed=training.seed,
        unit=loss.unit(dataset.preparation.target.scale),
        augmentation=config.data.image.augmentation if config.data.image else Augmentation.NONE,
        stop=_stop(training.early_stopping, architecture, dataset),
        stop_on=training.early_stopping.metric if training.early_stopping else LOSS,
        plateau=_plateau(training.schedule),
        metrics=_metrics(config.evaluation, architecture, dataset),
        checkpoint=training.checkpoint,
        base=config.base_location,
        tuning=config.model.pretrained,
    )
    return plan.model_copy(update={"fingerprint": _fingerprint(config, dataset, plan)}), chosen.choices


def _architecture(config: TrainingConfig, dataset: Dataset, loss: LossType) -> Architecture:
    classes, base = len(dataset.classes), dataset.base
    if config.model.custom is not None:
        few = next(dataset.training.pieces())[0][:PROBED_ROWS]
        return custom(config.model.custom, dataset.code, few, dataset.inputs, classes, loss)
    if base is None:
        return build(config.model, dataset.inputs, classes, loss)
    goes_on = dataset.task == "LanguageModeling"
    return pretrained(base.uri, base.config, dataset.inputs, classes, loss, goes_on=goes_on)


def _loss(loss: blocks.Loss, dataset: Dataset, chosen: _Chosen) -> Loss:
    if loss.type is LossType.BINARY_CROSS_ENTROPY and len(dataset.classes) != 2:
        raise ModelInvalid(
            f"training.loss.type BinaryCrossEntropy is for two classes, and {dataset.target} has {len(dataset.classes)}: "
            "use CrossEntropy or Auto"
        )
    if dataset.task == "LanguageModeling":
        return Loss(type=dataset.loss, of_tokens=True)
    weights: list[float] = []
    if loss.class_weights is ClassWeights.BALANCED:
        if not dataset.classes or dataset.loss is LossType.PERCEPTRON:
            raise ModelInvalid(
                f"training.loss.classWeights Balanced does not go with {dataset.loss}: use CrossEntropy, or drop it"
            )
        weights = balanced(dataset.training.class_counts(len(dataset.classes)))
    scale = dataset.preparation.target.scale
    if dataset.loss is LossType.HUBER and loss.delta is None:
        chosen.add("training.loss.delta", f"{scale:.6g}", "one unit of the scaled target")
    delta = 1.0 if loss.delta is None else loss.delta / scale
    return Loss(type=dataset.loss, delta=delta, label_smoothing=loss.label_smoothing or 0.0, class_weights=weights)


def _optimizer_type(optimizer: blocks.Optimizer, family: Family, chosen: _Chosen) -> OptimizerType:
    if optimizer.type is not OptimizerType.AUTO:
        return optimizer.type
    perceptron = family is Family.PERCEPTRON
    type_ = OptimizerType.SGD if perceptron else OptimizerType.ADAM
    reason = "the classic rule" if perceptron else "converges without tuning on most problems"
    chosen.add("training.optimizer.type", type_, reason)
    return type_


def _optimizer(optimizer: blocks.Optimizer, type_: OptimizerType, family: Family, steps: int, chosen: _Chosen) -> Rule:
    rate = optimizer.learning_rate
    if rate is None:
        reason = f"the default of {type_}"
        if optimizer.type is OptimizerType.AUTO and family in DENSE:
            rate = min(LARGEST_ADAM_RATE, max(ADAM_RATE, float(f"{ADAM_WAY / steps:.2g}")))
            reason = f"for {steps} steps, in each of which Adam moves a weight by about this much"
        elif type_ in ADAMS:
            rate = ADAM_RATE
        elif family is Family.PERCEPTRON:
            rate, reason = PERCEPTRON_RATE, f"the default of {family}"
        else:
            rate = OTHER_RATE
        chosen.add("training.optimizer.learningRate", rate, reason)
    unset = Rule(
        type=type_,
        learning_rate=rate,
        epsilon=ADAGRAD_EPSILON if type_ is OptimizerType.ADAGRAD else Rule.model_fields["epsilon"].default,
        weight_decay=ADAM_W_DECAY if type_ is OptimizerType.ADAM_W else 0.0,
    )
    return unset.model_copy(update=optimizer.model_dump(exclude_none=True, exclude={"type", "learning_rate"}))


def _batch(config: TrainingConfig, optimizer: OptimizerType, rows: int, chosen: _Chosen) -> int:
    if optimizer is OptimizerType.GRADIENT_DESCENT:
        return rows
    if config.training.batch_size is not None:
        return min(config.training.batch_size, rows)
    if config.model.family is Family.PERCEPTRON:
        chosen.add("training.batchSize", 1, "the classic rule looks at one row at a time")
        return 1
    batch, reason = min(BATCH_ROWS, rows), "the default, over all workers"
    if config.training.optimizer.type is OptimizerType.AUTO and config.model.family in DENSE:
        share = max(FEWEST_BATCH_ROWS, math.ceil(rows / BATCHES))
        if share < batch:
            batch, reason = share, f"over all workers, so that an epoch of {rows} rows takes some steps"
    chosen.add("training.batchSize", batch, reason)
    return batch


def needs_gpu(architecture: Architecture, precision: Precision) -> bool:
    """Whether a CPU may not compute the network in these numbers: oneDNN has an LSTM in short ones on few of them."""
    is_short = precision in (Precision.BFLOAT16, Precision.FLOAT16)
    return is_short and isinstance(architecture, Recurrent) and architecture.cell is Cell.LSTM


def _precision(config: TrainingConfig, architecture: Architecture, chosen: _Chosen) -> Precision:
    """Refuses what the engine or the device of the configuration does not have, which a search may have come to."""
    training = config.training
    if config.engine is Engine.TORCH:
        if not config.workers.gpus and needs_gpu(architecture, training.precision):
            raise ModelInvalid(
                f"training.precision {training.precision} of an LSTM needs a GPU: set workers.gpus, or use cell GRU or Float32"
            )
        return training.precision
    if needed := training.needs_torch:
        raise ModelInvalid(f"engine NumPy has no {needed}: set training.engine to Torch")
    if training.precision is Precision.AUTO:
        chosen.add("training.precision", Precision.FLOAT64, "NumPy computes in it")
    return Precision.FLOAT64


def _parallelism(config: TrainingConfig, architecture: Architecture) -> Parallelism:
    """Refuses what does nothing; the spec's own rules do, and a search may have come to it nevertheless."""
    training, asked = config.training, config.training.parallelism
    if config.workers.max == 1:
        if asked.strategy is not Strategy.AUTO:
            raise ModelInvalid(f"training.parallelism.strategy {asked.strategy} is for several workers: raise workers.max")
        if training.gradients.compression is not Compression.NONE:
            raise ModelInvalid("training.gradients.compression is for several workers: raise workers.max")
    if asked.strategy is Strategy.FSDP and isinstance(architecture, Pretrained | Custom):
        whose = "a pretrained model" if isinstance(architecture, Pretrained) else "a network of your own"
        raise ModelInvalid(f"{whose} is not shared out between workers: set training.parallelism.strategy to DDP")
    if asked.activation_checkpointing is ActivationCheckpointing.FULL:
        has_layers = isinstance(architecture, Convolutional | Transformer | Pretrained) or (
            isinstance(architecture, Dense) and architecture.hidden
        )
        if not has_layers or any(name.endswith("running_mean") for name in architecture.buffers):
            raise ModelInvalid(
                "training.parallelism.activationCheckpointing is for hidden layers, those of transformers and convolutions "
                "without statistics of their own: drop it, or set model.convolutionalNetwork.normalization to Layer or None"
            )
    return asked


def _initialization(spec: Initialization, architecture: Architecture, chosen: _Chosen, *, is_drawn: bool) -> Initialization:
    if not is_drawn or spec.method is not InitializationMethod.AUTO:
        return spec
    method, reason = initialization.decide(architecture)
    chosen.add("model.initialization.method", method, reason)
    return Initialization(method=method)


def _stop(stopping: blocks.EarlyStopping | None, architecture: Architecture, dataset: Dataset) -> Patience | None:
    if stopping is None:
        return None
    if not dataset.validation.rows:
        raise ModelInvalid(
            "training.earlyStopping looks at the validation part, which is empty: set data.split.validationPercent"
        )
    names = [LOSS, *metrics.names(architecture.head)]
    if stopping.metric not in names:
        raise ModelInvalid(f"training.earlyStopping.metric {stopping.metric} is not one of this task: use {', '.join(names)}")
    return Patience(
        epochs=stopping.patience_epochs,
        min_delta=stopping.min_delta,
        larger_is_better=stopping.metric in metrics.LARGER_IS_BETTER,
    )


def _plateau(spec: blocks.Schedule) -> Patience | None:
    if spec.type is not ScheduleType.REDUCE_ON_PLATEAU:
        return None
    return Patience(epochs=spec.every_epochs or schedule.EVERY_EPOCHS, threshold=PLATEAU_THRESHOLD)


def _metrics(evaluation: Evaluation, architecture: Architecture, dataset: Dataset) -> list[str]:
    """The metrics to tell, those of the gates among them."""
    known = metrics.names(architecture.head)
    told = evaluation.metrics or metrics.USUAL[architecture.head]
    rows = {EvaluatedPart.VALIDATION: dataset.validation.rows, EvaluatedPart.TEST: dataset.test.rows}
    for number, gate in enumerate(evaluation.gates):
        if not rows.get(gate.part, 1):
            raise ModelInvalid(
                f"evaluation.gates[{number}] looks at the {gate.part.lower()} part, which is empty: "
                f"set data.split.{gate.part.lower()}Percent"
            )
    wanted = list(dict.fromkeys([*told, *(gate.metric for gate in evaluation.gates)]))
    for name in wanted:
        if name not in known:
            raise ModelInvalid(f"evaluation: {name} is not a metric of this task: use {', '.join(known)}")
    return wanted


def _fingerprint(config: TrainingConfig, dataset: Dataset, plan: Plan) -> str:
    parts = [
        config.engine,
        dataset.report.digest,
        dataset.preparation.model_dump(mode="json"),
        config.data.split.model_dump(mode="json"),
        # Another bound of the workers changes the order of the epochs to come, and what is learned so far is good for them.
        plan.model_dump(mode="json", exclude={"lanes"}),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
