"""The TrainingJob resource."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from eagleray_operator.api.common import Metadata, Quantity, Runtime, Scheduling
from eagleray_operator.api.conditions import Condition
from eagleray_operator.api.reasons import Reason
from eagleray_runtime.contract import blocks, stores
from eagleray_runtime.contract.blocks import INT32_MAX, TORCH_FAMILIES, Block, Data, Family, Model, Reference, Rule, Training
from eagleray_runtime.contract.reports import Choice, DataReport, Estimate, HistoryPoint, Metric, SavedModel, SearchReport, Stage
from eagleray_runtime.contract.search import Search

TORCH_ALONE = [str(family) for family in Family if family in TORCH_FAMILIES]
"""Names of the families that only the torch engine has, as CEL writes a list too."""


class Output(Block):
    """Where the model goes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
        Rule(
            "!has(self.uri) || self.uri.startsWith('hf://') || self.volumeSize == '5Gi'",
            "volumeSize is that of a claim, which is made for the model without uri or for checkpoints beside hf://: drop it",
        ),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description=f"Folder that receives the bundle: {stores.PLACE}. "
        "Unset means the platform's store, or a PersistentVolumeClaim <name>-model where there is none.",
    )
    secret_ref: Reference | None = Field(
        None,
        description=stores.KEYS,
    )
    volume_size: Quantity = Field("5Gi", description="Size of the PersistentVolumeClaim, where one is made. Default 5Gi.")


class Workers(Block):
    """The workers that train."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("!has(self.max) || self.min <= self.max", "min is above max"),)

    min: int = Field(
        1,
        ge=1,
        le=1024,
        description="Fewest workers to train with; the job starts when they are there. Default 1. A change counts from the next "
        "attempt on.",
    )
    max: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Most workers; they join as capacity appears (engine Torch). Unset means min. A change counts from the next "
        "attempt on.",
    )
    cpus: float = Field(1, gt=0, le=1024, description="CPU cores of each worker. Default 1.")
    gpus: int = Field(0, ge=0, le=64, description="GPUs of each worker (nvidia.com/gpu). Default 0.")
    memory: Quantity | None = Field(
        None,
        description="Memory of each worker, such as 4Gi. Unset means the platform's default. A change counts from the next "
        "attempt on.",
    )

    @property
    def most(self) -> int:
        """Upper bound with its default."""
        return self.max if self.max is not None else self.min


class RunPolicy(Block):
    """Limits over all attempts of a job."""

    active_deadline_seconds: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="Seconds after which the job fails, over all attempts; those do not count in which it waits for its first "
        "attempt or is suspended. Unset means no limit.",
    )
    backoff_limit: int = Field(
        3,
        ge=0,
        le=100,
        description="How often an attempt that a retry can help is repeated, from its checkpoint. Default 3.",
    )
    start_deadline_seconds: int | None = Field(
        None,
        ge=30,
        le=INT32_MAX,
        description="Seconds that the pods of an attempt may take to start, in queues for nodes and images too; a change holds "
        "from the next attempt. Unset means the platform's number.",
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=INT32_MAX,
        description="Seconds after which a finished job is deleted; a model in a store stays. Unset means never.",
    )


IMMUTABLE = ("data", "model", "training", "evaluation", "search", "output", "runtime", "scheduling")


class TrainingJobSpec(Block):
    """Reads data, prepares it, trains, evaluates and saves a verified model."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *(
            Rule(
                f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
                f"{field} of a job cannot change: create a new job",
            )
            for field in IMMUTABLE
        ),
        Rule(
            "self.workers.cpus == oldSelf.workers.cpus && self.workers.gpus == oldSelf.workers.gpus",
            "workers.cpus and workers.gpus of a job cannot change: create a new job",
        ),
        Rule(
            "self.training.engine != 'NumPy' || (self.workers.gpus == 0 && self.workers.min == 1 && "
            "(!has(self.workers.max) || self.workers.max == 1))",
            "engine NumPy trains on one worker without GPU: drop workers.gpus and workers.max, or use Torch",
        ),
        Rule(
            f"self.training.engine != 'NumPy' || !(self.model.family in {TORCH_ALONE})",
            "only engine Torch has families ConvolutionalNetwork, RecurrentNetwork, Transformer, Pretrained and Custom: use "
            "Torch or Auto",
        ),
        Rule(
            "self.data.format != 'ImageFolder' || self.model.family in ['ConvolutionalNetwork', 'Custom']",
            "only families ConvolutionalNetwork and Custom learn from format ImageFolder",
        ),
        Rule(
            "(self.model.family != 'ConvolutionalNetwork' && self.data.format != 'ImageFolder') || "
            "(!has(self.data.sample) && !has(self.data.columns) && self.data.format in ['Auto', 'NPZ', 'ImageFolder'])",
            "family ConvolutionalNetwork learns from images: use format NPZ or ImageFolder, without columns or sample",
        ),
        Rule(
            "has(self.data.sequence) ? self.model.family in ['RecurrentNetwork', 'Custom'] : "
            "self.model.family != 'RecurrentNetwork'",
            "family RecurrentNetwork learns from data.sequence, which only family Custom takes too",
        ),
        Rule(
            "has(self.data.text) ? self.model.family in ['Transformer', 'Pretrained', 'Custom'] : "
            "!(self.model.family in ['Transformer', 'Pretrained'])",
            "families Transformer and Pretrained learn from data.text, which only family Custom takes too",
        ),
        Rule(
            "self.model.family != 'Custom' || !has(self.data.text) || has(self.data.target)",
            "a network of your own tells data.target: set it, or go on with text by family Transformer or Pretrained",
        ),
        Rule(
            "self.model.family != 'Pretrained' || !has(self.data.text) || !has(self.data.text.vocabularySize)",
            "a pretrained model has its tokens: drop data.text.vocabularySize",
        ),
        Rule(
            "self.model.family != 'Transformer' || has(self.data.target) == (!has(self.model.transformer) || "
            "self.model.transformer.architecture == 'Encoder')",
            "an encoder needs data.target, and a decoder, which goes on with the text itself, has none: set "
            "model.transformer.architecture accordingly",
        ),
        Rule(
            "!has(self.data.text) || has(self.data.target) || (self.training.loss.type in ['Auto', 'CrossEntropy'] && "
            "!has(self.training.loss.labelSmoothing) && self.training.loss.classWeights == 'None')",
            "without data.target each next token is learned by CrossEntropy: drop labelSmoothing and classWeights",
        ),
        Rule(
            "(self.model.family != 'ConvolutionalNetwork' && self.data.format != 'ImageFolder' && !has(self.data.text)) || "
            "(self.data.preparation.missingNumeric == 'Mean' && "
            "self.data.preparation.missingCategorical == 'MostFrequent' && self.data.preparation.encoding == 'OneHot' && "
            "self.data.preparation.maxCategories == 100 && self.data.preparation.outliers == 'None' && "
            "!has(self.data.preparation.overrides))",
            "of preparation images take duplicates, scaling and targetScaling alone, text duplicates and targetScaling: drop "
            "the rest",
        ),
        Rule(
            "!has(self.data.text) || self.data.preparation.scaling == 'Standard'",
            "text is not scaled: drop data.preparation.scaling",
        ),
        Rule(
            "!has(self.model.startFrom) || (self.data.preparation.missingNumeric == 'Mean' && "
            "self.data.preparation.missingCategorical == 'MostFrequent' && self.data.preparation.encoding == 'OneHot' && "
            "self.data.preparation.scaling == 'Standard' && self.data.preparation.maxCategories == 100 && "
            "self.data.preparation.outliers == 'None' && !has(self.data.preparation.targetScaling) && "
            "!has(self.data.preparation.overrides))",
            "model.startFrom brings its preparation: drop all of data.preparation but duplicates",
        ),
        Rule(
            "!has(self.data.sample) || !(self.model.family in ['LogisticRegression', 'Perceptron'])",
            "sample LinearRegression has no classes: use LinearRegression or MultilayerPerceptron",
        ),
        Rule(
            "self.training.loss.type == 'Auto' || "
            "(self.training.loss.type == 'Perceptron') == (self.model.family == 'Perceptron')",
            "loss Perceptron and family Perceptron go together: drop training.loss.type",
        ),
        Rule(
            "!has(self.search) || (self.search.algorithm != 'ASHA' && self.search.parallelTrials == 1) || "
            "self.training.engine == 'NumPy' || (self.training.engine == 'Auto' && "
            f"!(self.model.family in {TORCH_ALONE}) && self.workers.gpus == 0 && "
            "self.workers.min == 1 && (!has(self.workers.max) || self.workers.max == 1) && "
            "self.training.precision in ['Auto', 'Float64'] && self.training.compile == 'None' && "
            "self.training.parallelism.activationCheckpointing == 'None')",
            "engine Torch makes one trial after the other, each to its end: drop search.parallelTrials and algorithm ASHA, or "
            "train with NumPy on one worker without GPU",
        ),
        Rule(
            "self.training.parallelism.strategy == 'Auto' || self.workers.min > 1 || "
            "(has(self.workers.max) && self.workers.max > 1)",
            "one worker holds the whole model: drop training.parallelism.strategy or raise workers.max",
        ),
        Rule(
            "self.training.gradients.compression == 'None' || self.workers.min > 1 || "
            "(has(self.workers.max) && self.workers.max > 1)",
            "one worker sends its gradients to nobody: drop training.gradients.compression or raise workers.max",
        ),
        Rule(
            "self.training.parallelism.activationCheckpointing == 'None' || "
            "self.model.family in ['MultilayerPerceptron', 'Transformer', 'Pretrained'] || "
            "(self.model.family == 'ConvolutionalNetwork' && has(self.model.convolutionalNetwork) && "
            "self.model.convolutionalNetwork.normalization != 'Batch')",
            "activationCheckpointing is for families MultilayerPerceptron, Transformer, Pretrained and ConvolutionalNetwork, "
            "there with normalization Layer or None: drop it",
        ),
        Rule(
            "!has(self.model.pretrained) || self.model.pretrained.method != 'HeadOnly' || has(self.data.target)",
            "method HeadOnly learns the layer that tells data.target: set it, or learn by Full or LoRA",
        ),
        Rule(
            "self.data.loading == 'Memory' || self.model.family in ['LinearRegression', 'LogisticRegression', 'Perceptron', "
            "'MultilayerPerceptron', 'Custom']",
            "data.loading Stream is for families LinearRegression, LogisticRegression, Perceptron, MultilayerPerceptron and "
            "Custom",
        ),
        Rule(
            "self.data.loading == 'Memory' || (!has(self.search) && !has(self.evaluation.crossValidation) && "
            "!has(self.model.startFrom))",
            "data.loading Stream trains one model from scratch: drop search, evaluation.crossValidation and model.startFrom",
        ),
        Rule(
            "self.data.loading == 'Memory' || self.training.optimizer.type != 'GradientDescent'",
            "GradientDescent looks at all rows in each step, and data.loading Stream at a few: use SGD or another optimizer",
        ),
        Rule(
            "self.model.family != 'Pretrained' || self.training.parallelism.strategy != 'FSDP'",
            "a pretrained model is not shared out between workers: drop training.parallelism.strategy",
        ),
        Rule(
            "self.model.family != 'Custom' || self.training.parallelism.strategy != 'FSDP'",
            "a network of your own is not shared out between workers: drop training.parallelism.strategy",
        ),
    )

    data: Data = Field(description="The rows to learn from.")
    model: Model = Field(description="What is trained.")
    training: Training = Field(default_factory=Training, description="How the model is trained.")
    evaluation: blocks.Evaluation = Field(
        default_factory=blocks.Evaluation, description="How the finished model is measured, and what it must come up to."
    )
    search: Search | None = Field(
        None,
        description="Train with other values of some fields first, and take the best ones for the model itself; the test part is "
        "never looked at. Unset means none.",
    )
    output: Output = Field(default_factory=Output, description="Where the model goes.")
    workers: Workers = Field(default_factory=Workers, description="The workers that train.")
    runtime: Runtime = Field(default_factory=Runtime, description="The pods' software.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods run.")
    run_policy: RunPolicy = Field(default_factory=RunPolicy, description="Limits over all attempts of the job.")
    suspend: bool = Field(
        False,
        description="Gives the pods back and keeps the checkpoint; the job goes on from there when set to false. Default false.",
    )


class Progress(Block):
    """How far a running job is."""

    stage: Stage | None = Field(None, description="What the attempt is doing; unset while none is under way.")
    epoch: int = Field(0, description="Finished passes over the training part.")
    epochs: int = Field(0, description="Passes in all.")
    step: int = Field(0, description="Finished steps.")
    trial: int | None = Field(None, description="Trial of the search that runs; unset when the model itself is trained.")
    fold: int | None = Field(None, description="Training that runs, of those of cross-validation and the model's own.")
    percent: int = Field(0, description="Share of the whole job that is done, in percent.")
    estimated_remaining_seconds: int | None = Field(None, description="Seconds until the end, as far as can be told.")
    workers: int = Field(0, description="Workers that train now.")
    metrics: dict[str, float] = Field(default_factory=dict, description="Newest losses by name.")
    history: list[HistoryPoint] = Field(default_factory=list, max_length=50, description="Losses by epoch, at most 50 of them.")


class GateResult(Block):
    """What a gate came to."""

    metric: str = Field(description="Metric that the gate looks at.")
    part: str = Field(description="Part of the data.")
    value: float | None = Field(None, description="What it was; unset if it could not be measured.")
    wanted: str = Field(description="What it had to be.")
    passed: bool = Field(description="Whether it was.")


class Evaluation(Block):
    """How good the finished model is."""

    metrics: list[Metric] = Field(default_factory=list, max_length=64, description="Metrics by part of the data.")
    gates: list[GateResult] = Field(default_factory=list, max_length=16, description="What the gates came to.")


class Attempt(Block):
    """One run of the job on a cluster of its own."""

    number: int = Field(description="Counts from 1.")
    reason: Reason | None = Field(None, description="How it ended; unset while it runs.")
    message: str = Field("", max_length=1500, description="How it ended, in its own words.")
    start_time: datetime | None = Field(None, description="When it was created.")
    end_time: datetime | None = Field(None, description="When its end was seen.")
    from_epoch: int = Field(0, description="Epoch that it resumed from; until it tells, the one that was reached before it.")
    to_epoch: int = Field(0, description="Epoch that it is known to have reached.")
    training_time: datetime | None = Field(None, description="When it began to train.")
    checkpoint_seconds: float = Field(0, description="Seconds that its training has waited for checkpoints.")
    recovery_seconds: float = Field(0, description="Seconds until lost workers were replaced, while it went on.")
    lost_seconds: float = Field(
        0, description="Seconds of training that was done again or not kept; at most so many where it ended without a word."
    )
    unsaved_seconds: float = Field(0, description="Seconds of training since its last checkpoint.")


class Timing(Block):
    """On what a job has spent its time, in seconds, which add up to the time from its creation until untilTime."""

    queued_seconds: float = Field(0, description="Waiting for what it needs before its first attempt.")
    start_up_seconds: float = Field(0, description="Starting the first attempt: pods, Ray, reading and preparing the data.")
    training_seconds: float = Field(
        0, description="Training, evaluating and saving what became of the model; its share of the sum is the goodput."
    )
    checkpoint_seconds: float = Field(0, description="Training that waited for checkpoints.")
    recovery_seconds: float = Field(0, description="Between attempts and starting the next ones, and replacing lost workers.")
    lost_seconds: float = Field(0, description="Training that was not kept, until the loss of it was noticed.")
    suspended_seconds: float = Field(0, description="Suspended.")
    until_time: datetime = Field(description="Moment that the figures add up to; they change with the rest of the status only.")


class TrainingJobStatus(Block):
    """What is known of a job."""

    observed_generation: int | None = Field(None, description="Generation of the spec that this was computed from.")
    start_time: datetime | None = Field(None, description="When the first attempt was created.")
    completion_time: datetime | None = Field(None, description="When the job finished.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="Succeeded is the summary; Accepted, Progressing, Suspended, Complete, Failed, GatePassed beside it.",
    )
    progress: Progress | None = Field(None, description="How far the job is.")
    chosen: list[Choice] = Field(default_factory=list, max_length=32, description="Values that were chosen for you, and why.")
    data: DataReport | None = Field(None, description="What became of the rows.")
    evaluation: Evaluation | None = Field(None, description="How good the finished model is.")
    search: SearchReport | None = Field(None, description="How far the search is, and what is best so far.")
    estimate: Estimate | None = Field(None, description="What the job needs, and how right that was.")
    model: SavedModel | None = Field(None, description="The saved model.")
    attempts: list[Attempt] = Field(default_factory=list, max_length=10, description="The newest ten attempts.")
    timing: Timing | None = Field(None, description="On what the job has spent its time.")


class TrainingJob(Block):
    """A job that trains one model."""

    model_config = Block.model_config | {"extra": "ignore"}

    metadata: Metadata
    spec: TrainingJobSpec
    status: TrainingJobStatus = Field(default_factory=TrainingJobStatus)
