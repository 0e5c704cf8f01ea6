"""How a job trains: engine, loss, optimiser, schedule, gradients, precision, and how workers share the work."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from eagleray_runtime.contract.blocks.base import INT32_MAX, Block, MetricName, Rule, Seed, not_both, only_with


class Engine(StrEnum):
    """Library that computes; Auto decides by family and workers."""

    AUTO = "Auto"
    NUMPY = "NumPy"
    TORCH = "Torch"


class LossType(StrEnum):
    """What training makes small; Auto decides by family and task."""

    AUTO = "Auto"
    MEAN_SQUARED_ERROR = "MeanSquaredError"
    MEAN_ABSOLUTE_ERROR = "MeanAbsoluteError"
    HUBER = "Huber"
    CROSS_ENTROPY = "CrossEntropy"
    BINARY_CROSS_ENTROPY = "BinaryCrossEntropy"
    NEGATIVE_LOG_LIKELIHOOD = "NegativeLogLikelihood"
    PERCEPTRON = "Perceptron"


class ClassWeights(StrEnum):
    """What a row of each class counts."""

    NONE = "None"
    BALANCED = "Balanced"


class Loss(Block):
    """What training makes small."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *only_with("type", ("Huber",), "delta"),
        *only_with("type", ("CrossEntropy",), "labelSmoothing"),
    )

    type: LossType = Field(
        LossType.AUTO,
        description="MeanSquaredError is 1/(2m) times the sum of squared errors; MeanAbsoluteError the mean of |e|; Huber half "
        "the square of small errors and delta (|e| - delta/2) of larger ones; CrossEntropy and NegativeLogLikelihood the mean of "
        "-ln p(label); BinaryCrossEntropy the same of two classes by one output; Perceptron goes with the family of that name. "
        "Auto: CrossEntropy for classification and for text to go on with (the mean over its tokens), else MeanSquaredError.",
    )
    delta: float | None = Field(
        None,
        gt=0,
        description="Huber: the error, in the target's own unit, from which the loss grows linearly. "
        "Unset means one unit of the scaled target.",
    )
    label_smoothing: float | None = Field(
        None, ge=0, le=0.9, description="CrossEntropy: share of a label that is spread over all classes. Unset means 0."
    )
    class_weights: ClassWeights = Field(
        ClassWeights.NONE,
        description="Balanced: a row counts rows / (classes * rows of its class): rare classes count as much. Default None.",
    )


class OptimizerType(StrEnum):
    """Rule of the parameter updates; GradientDescent uses all rows for each step."""

    AUTO = "Auto"
    GRADIENT_DESCENT = "GradientDescent"
    SGD = "SGD"
    ADAM = "Adam"
    ADAM_W = "AdamW"
    RMS_PROP = "RMSprop"
    ADAGRAD = "Adagrad"


class Optimizer(Block):
    """Rule of the parameter updates; what is unset is as in torch."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *only_with("type", ("SGD", "RMSprop"), "momentum"),
        *only_with("type", ("SGD",), "nesterov"),
        *only_with("type", ("Adam", "AdamW"), "beta1", "beta2"),
        *only_with("type", ("Adam", "AdamW", "RMSprop", "Adagrad"), "epsilon"),
        Rule(
            "!has(self.nesterov) || !self.nesterov || (has(self.momentum) && self.momentum > 0.0)",
            "nesterov needs a momentum above 0",
        ),
    )

    type: OptimizerType = Field(
        OptimizerType.AUTO,
        description="GradientDescent (all rows a step), or by mini-batches SGD, Adam, AdamW, RMSprop or Adagrad. "
        "Auto: Adam; SGD for family Perceptron.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Size of a step. Unset means 0.001 for Adam and AdamW, 1 for family Perceptron, else 0.01; for type Auto of "
        "linear and logistic regression and multi-layer perceptrons 2 divided by the number of steps, from 0.001 to 0.03.",
    )
    momentum: float | None = Field(
        None, ge=0, le=0.9999, description="SGD, RMSprop: share of the last step that the next one keeps. Unset means 0."
    )
    nesterov: bool | None = Field(None, description="SGD: look ahead along the momentum (Nesterov). Unset means false.")
    beta1: float | None = Field(
        None, ge=0, le=0.9999, description="Adam, AdamW: decay of the mean of gradients. Unset means 0.9."
    )
    beta2: float | None = Field(
        None, ge=0, le=0.99999, description="Adam, AdamW: decay of the mean of squared gradients. Unset means 0.999."
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Added to the denominator of a step. Unset means 1e-8, for Adagrad 1e-10.",
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        le=10,
        description="Pull of all parameters to zero: added to the gradient as weightDecay * parameter, by AdamW taken off "
        "the parameter itself. Unset means 0, for AdamW 0.01.",
    )


class ScheduleType(StrEnum):
    """How the learning rate changes over the training."""

    CONSTANT = "Constant"
    STEP = "Step"
    EXPONENTIAL = "Exponential"
    LINEAR = "Linear"
    COSINE = "Cosine"
    ONE_CYCLE = "OneCycle"
    REDUCE_ON_PLATEAU = "ReduceOnPlateau"


class Schedule(Block):
    """How the learning rate changes over the training."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *only_with("type", ("Step", "ReduceOnPlateau"), "everyEpochs"),
        *only_with("type", ("Step", "Exponential", "ReduceOnPlateau"), "factor"),
        Rule("self.type != 'OneCycle' || self.warmupPercent == 0", "OneCycle warms up by itself: drop warmupPercent"),
    )

    type: ScheduleType = Field(
        ScheduleType.CONSTANT,
        description="Step: times factor every everyEpochs. Exponential: times factor every epoch. Linear and Cosine: to zero at "
        "the end. OneCycle: from 1/25 up to learningRate in the first 30 percent of the steps, then down to nearly zero. "
        "ReduceOnPlateau: times factor when the validation loss, or without a validation part the training loss, has not "
        "improved for everyEpochs. Default Constant.",
    )
    warmup_percent: int = Field(
        0,
        ge=0,
        le=50,
        description="Share of all steps over which the rate rises from zero at first, in percent. Default 0.",
    )
    factor: float | None = Field(
        None, gt=0, lt=1, description="What the rate is multiplied by. Unset means 0.1, for Exponential 0.95."
    )
    every_epochs: int | None = Field(None, ge=1, le=INT32_MAX, description="Epochs between two changes. Unset means 10.")


class Compression(StrEnum):
    """How gradients are made smaller on their way between workers."""

    NONE = "None"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"
    POWER_SGD = "PowerSGD"


class Gradients(Block):
    """What happens to gradients before a step."""

    clip_norm: float | None = Field(
        None, gt=0, description="Longest gradient (Euclidean norm over all parameters); longer ones are shortened to it."
    )
    clip_value: float | None = Field(None, gt=0, description="Largest entry of a gradient; larger ones are cut, before clipNorm.")
    accumulation_steps: int = Field(
        1,
        ge=1,
        le=4096,
        description="Parts in which the rows of a step are computed, one by one: less memory for the same step. Default 1.",
    )
    compression: Compression = Field(
        Compression.NONE,
        description="How gradients are made smaller on their way between workers: Float16 and BFloat16 by half; PowerSGD (Vogels "
        "2019) each matrix to two narrow ones after the first tenth of all steps, what is left out being added to the next step, "
        "of which the last one is lost with an attempt. Default None.",
    )


class EarlyStopping(Block):
    """The end of training when it does not help any more; the model is then that of the best epoch."""

    metric: MetricName = Field(
        "Loss",
        description="What must improve on the validation part: Loss or a metric of the task (Accuracy, R2). Default Loss.",
    )
    patience_epochs: int = Field(5, ge=1, le=INT32_MAX, description="Epochs without improvement after which it ends. Default 5.")
    min_delta: float = Field(0.0, ge=0, le=100, description="By how much the metric must improve to count. Default 0.")


class Checkpoint(Block):
    """When the state of training is saved, from which the next attempt goes on."""

    rules: ClassVar[tuple[Rule, ...]] = (not_both("everyEpochs", "everySeconds"),)

    every_epochs: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="Epochs between two checkpoints, of which one takes Torch two seconds at least.",
    )
    every_seconds: int | None = Field(
        None, ge=10, le=INT32_MAX, description="Seconds between two checkpoints. Unset means 10, unless everyEpochs is set."
    )
    keep: int = Field(2, ge=1, le=100, description="Checkpoints that are kept, the newest ones. Default 2.")


class Precision(StrEnum):
    """Numbers that a network computes in; Auto decides by engine, family and device."""

    AUTO = "Auto"
    FLOAT64 = "Float64"
    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"
    FLOAT16 = "Float16"


class Compilation(StrEnum):
    """Whether a network is compiled for its device before it is trained."""

    NONE = "None"
    DEFAULT = "Default"


class Strategy(StrEnum):
    """What each of several workers holds; Auto decides by the memory of the GPU."""

    AUTO = "Auto"
    DDP = "DDP"
    FSDP = "FSDP"


class ActivationCheckpointing(StrEnum):
    """Whether layers are computed again for their gradients instead of being remembered."""

    NONE = "None"
    FULL = "Full"


class Parallelism(Block):
    """What each worker holds in its memory."""

    strategy: Strategy = Field(
        Strategy.AUTO,
        description="DDP: every worker holds the whole model. FSDP: each holds a part of parameters, gradients and optimiser's "
        "state, and fetches a layer's parameters for as long as it computes it; model and checkpoints are whole. Both come to "
        "the same. Auto: FSDP where model, gradients and optimiser's state take more than half of a GPU's memory, else DDP, and "
        "always DDP with compression PowerSGD and for families Pretrained and Custom.",
    )
    activation_checkpointing: ActivationCheckpointing = Field(
        ActivationCheckpointing.NONE,
        description="Full: only what goes into each hidden layer or convolution is remembered, and the rest computed again for "
        "the gradients: less memory, a third more time, the same model. For families MultilayerPerceptron, "
        "Transformer, Pretrained and ConvolutionalNetwork (there with normalization Layer or None). Default None.",
    )


class Training(Block):
    """How the model is trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.optimizer.type != 'GradientDescent' || !has(self.batchSize)",
            "GradientDescent uses all rows: drop batchSize or use SGD",
        ),
        Rule(
            "self.engine != 'NumPy' || self.precision in ['Auto', 'Float64']",
            "engine NumPy computes in Float64: drop training.precision or use Torch",
        ),
        Rule("self.engine != 'NumPy' || self.compile == 'None'", "only engine Torch compiles: drop compile or use Torch"),
        Rule(
            "self.engine != 'NumPy' || self.parallelism.activationCheckpointing == 'None'",
            "only engine Torch has activationCheckpointing: drop it or use Torch",
        ),
        Rule(
            "self.gradients.compression != 'PowerSGD' || self.parallelism.strategy != 'FSDP'",
            "PowerSGD needs whole matrices, which FSDP cuts: use compression Float16 or BFloat16, or strategy DDP",
        ),
        Rule(
            "self.gradients.compression != 'PowerSGD' || self.precision != 'Float16'",
            "PowerSGD would carry a step that Float16 overflowed in into the next one: use precision BFloat16",
        ),
    )

    engine: Engine = Field(
        Engine.AUTO,
        description="Library that computes. Auto: Torch for families ConvolutionalNetwork, RecurrentNetwork, Transformer, "
        "Pretrained and Custom, with more than one worker, with a GPU or with what only it has (compile, "
        "activationCheckpointing, other precisions than Float64), else NumPy.",
    )
    epochs: int = Field(20, ge=1, le=INT32_MAX, description="Passes over the training part. Default 20.")
    batch_size: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="Rows of one step over ALL workers. Unset means 32, for GradientDescent all rows; for optimizer.type Auto of "
        "linear and logistic regression and multi-layer perceptrons no more than a quarter of the rows, but 4.",
    )
    seed: Seed = Field(0, description="Seed of initialisation and row order. Default 0.")
    loss: Loss = Field(default_factory=Loss, description="What training makes small.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="Rule of the parameter updates.")
    schedule: Schedule = Field(default_factory=Schedule, description="How the learning rate changes over the training.")
    precision: Precision = Field(
        Precision.AUTO,
        description="Numbers that the network computes in. BFloat16 and Float16 are for matrix products alone (torch.amp; "
        "Float16 with its loss scaled, for its numbers end at 65504), of an LSTM on GPUs alone: losses, parameters and optimiser "
        "stay in Float32. Auto: "
        "Float64 with NumPy; with Torch BFloat16 for families with other layers than dense ones on a GPU that computes in it, "
        "else Float32.",
    )
    compile: Compilation = Field(
        Compilation.NONE,
        description="Default: the network is compiled for its device (torch.compile), which takes up to minutes at the start of "
        "each attempt and makes large networks faster; the image must hold a C++ compiler. Default None.",
    )
    gradients: Gradients = Field(default_factory=Gradients, description="What happens to gradients before a step.")
    parallelism: Parallelism = Field(default_factory=Parallelism, description="What each worker holds in its memory.")
    checkpoint: Checkpoint = Field(
        default_factory=Checkpoint, description="When the state of training is saved, from which the next attempt goes on."
    )
    early_stopping: EarlyStopping | None = Field(
        None,
        description="End the training when it does not help any more; the model is then that of the best epoch. "
        "Unset means that all epochs are trained.",
    )

    @property
    def needs_torch(self) -> str | None:
        """What engine NumPy does not have of what is asked for, in words; None if it has all of it."""
        if self.precision not in (Precision.AUTO, Precision.FLOAT64):
            return f"precision {self.precision}"
        if self.compile is not Compilation.NONE:
            return "compile"
        if self.parallelism.activation_checkpointing is not ActivationCheckpointing.NONE:
            return "activationCheckpointing"
        if self.parallelism.strategy is not Strategy.AUTO:
            return f"strategy {self.parallelism.strategy}"
        if self.gradients.compression is not Compression.NONE:
            return "compression of gradients"
        return None
