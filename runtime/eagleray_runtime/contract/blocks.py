"""The parts of the resources' spec that the runtime executes.

The operator composes them into the spec of its resources, and the custom resource definitions are generated from them: a
field's description is what `kubectl explain` shows, so it names unit and default. `rules` are CEL expressions over the
block (variable `self`), evaluated by the apiserver and in local mode by the same strings.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

INT32_MAX = 2**31 - 1


class Rule(NamedTuple):
    """A CEL rule of a block and the message that the user reads when it does not hold."""

    expression: str
    message: str


class Block(BaseModel):
    """Base of every part of a spec, status, config or report: camelCase outside, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
        ser_json_inf_nan="constants",
    )
    rules: ClassVar[tuple[Rule, ...]] = ()


def exactly_one_of(*fields: str) -> Rule:
    """Rule that one and only one of the fields is set."""
    present = ", ".join(f"has(self.{field})" for field in fields)
    return Rule(f"[{present}].exists_one(x, x)", f"set exactly one of {', '.join(fields)}")


def not_both(first: str, second: str) -> Rule:
    """Rule that two fields exclude each other."""
    return Rule(f"!(has(self.{first}) && has(self.{second}))", f"{first} and {second} exclude each other: drop one")


Seed = Annotated[int, Field(ge=0, le=INT32_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class Reference(Block):
    """An object of the same namespace by its name."""

    name: Name = Field(description="Name of the object, in the same namespace.")


class KeyReference(Block):
    """One key of an object of the same namespace."""

    name: Name = Field(description="Name of the object, in the same namespace.")
    key: Name = Field(description="Key within the object.")


class Sample(StrEnum):
    """Data sets that the runtime makes itself."""

    LINEAR_REGRESSION = "LinearRegression"


class DataFormat(StrEnum):
    """How rows are stored; Auto decides by the file name's ending."""

    AUTO = "Auto"
    CSV = "CSV"
    PARQUET = "Parquet"
    NPZ = "NPZ"


class MissingNumeric(StrEnum):
    """What replaces a missing number."""

    MEAN = "Mean"
    MEDIAN = "Median"
    MOST_FREQUENT = "MostFrequent"
    ZERO = "Zero"
    DROP_ROW = "DropRow"
    ERROR = "Error"


class MissingCategorical(StrEnum):
    """What replaces a missing category."""

    MOST_FREQUENT = "MostFrequent"
    OWN_CATEGORY = "OwnCategory"
    DROP_ROW = "DropRow"
    ERROR = "Error"


class Duplicates(StrEnum):
    """What happens to rows that occur more than once."""

    KEEP = "Keep"
    DROP = "Drop"
    ERROR = "Error"


class Scaling(StrEnum):
    """How numeric columns are scaled."""

    STANDARD = "Standard"
    MIN_MAX = "MinMax"
    NONE = "None"


class Encoding(StrEnum):
    """How categorical columns become numbers."""

    ONE_HOT = "OneHot"
    NONE = "None"


class Preparation(Block):
    """Preparation of the data, fitted on the training part only and shipped with the model."""

    missing_numeric: MissingNumeric = Field(
        MissingNumeric.MEAN,
        description="What replaces a missing number. DropRow drops the row, Error ends the job. Default Mean.",
    )
    missing_categorical: MissingCategorical = Field(
        MissingCategorical.MOST_FREQUENT,
        description="What replaces a missing category. OwnCategory makes one for them. Default MostFrequent.",
    )
    duplicates: Duplicates = Field(Duplicates.KEEP, description="What happens to rows that occur more than once. Default Keep.")
    scaling: Scaling = Field(
        Scaling.STANDARD,
        description="Scaling of numeric columns: Standard (mean 0, deviation 1), MinMax (0 to 1) or None. Default Standard.",
    )
    encoding: Encoding = Field(
        Encoding.ONE_HOT,
        description="Encoding of categorical columns: OneHot, or None, which refuses data that has any. Default OneHot.",
    )
    max_categories: int = Field(
        100,
        ge=2,
        le=INT32_MAX,
        description="Most categories that a column may have before the job is refused. Default 100.",
    )


class SplitMethod(StrEnum):
    """How rows are dealt to the parts; Auto is Stratified for classification, else Random."""

    AUTO = "Auto"
    RANDOM = "Random"
    STRATIFIED = "Stratified"


class Split(Block):
    """Division of the rows into training, validation and test part."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.validationPercent) ? self.validationPercent : 10) + (has(self.testPercent) ? self.testPercent : 10) <= 80",
            "validationPercent and testPercent must leave at least 20 to train on",
        ),
    )

    validation_percent: int | None = Field(
        None,
        ge=0,
        le=50,
        description="Share of the rows that the model is validated on each epoch, in percent. Unset means 10.",
    )
    test_percent: int | None = Field(
        None,
        ge=0,
        le=50,
        description="Share of the rows held out to test the finished model, in percent. Unset means 10.",
    )
    method: SplitMethod = Field(
        SplitMethod.AUTO,
        description="How rows are dealt to the parts. Auto: Stratified for classification, else Random.",
    )
    seed: Seed = Field(0, description="Seed of the random numbers that deal the rows. Default 0.")


class Data(Block):
    """The rows to learn from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("uri", "configMapRef", "sample"),
        not_both("target", "sample"),
        Rule("has(self.target) || has(self.sample)", "data.target: name the column to predict"),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Where the rows are: s3://bucket/path or pvc://claim/path; a path may hold * to name several files.",
    )
    config_map_ref: KeyReference | None = Field(None, description="Key of a ConfigMap that holds the rows (small data).")
    sample: Sample | None = Field(
        None,
        description="A data set that the runtime makes: LinearRegression is 100 points of y = 3x + 2 + noise, "
        "x and noise uniform in 0..1.",
    )
    secret_ref: Reference | None = Field(
        None,
        description="Secret with the keys of the store (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...).",
    )
    format: DataFormat = Field(
        DataFormat.AUTO,
        description="How the rows are stored. Auto decides by the file name's ending (.csv, .parquet, .npz).",
    )
    target: str | None = Field(None, min_length=1, max_length=253, description="Column to predict.")
    features: list[Annotated[str, Field(min_length=1, max_length=253)]] | None = Field(
        None, min_length=1, max_length=1024, description="Columns to learn from. Unset means all others."
    )
    preparation: Preparation = Field(
        default_factory=Preparation, description="Preparation of the data, fitted on the training part only."
    )
    split: Split = Field(default_factory=Split, description="Division of the rows into training, validation and test part.")


class Family(StrEnum):
    """Model families."""

    LINEAR_REGRESSION = "LinearRegression"
    LOGISTIC_REGRESSION = "LogisticRegression"
    MULTILAYER_PERCEPTRON = "MultilayerPerceptron"


class Activation(StrEnum):
    """Non-linearity between layers."""

    RELU = "ReLU"
    TANH = "Tanh"
    SIGMOID = "Sigmoid"


class MultilayerPerceptron(Block):
    """Shape of a multi-layer perceptron."""

    hidden_layers: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [64],
        min_length=1,
        max_length=32,
        description="Number of units of each hidden layer, first to last. Default [64].",
    )
    activation: Activation = Field(Activation.RELU, description="Non-linearity after each hidden layer. Default ReLU.")


class Model(Block):
    """What is trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.multilayerPerceptron) || self.family == 'MultilayerPerceptron'",
            "multilayerPerceptron goes with family MultilayerPerceptron",
        ),
    )

    family: Family = Field(description="Model family.")
    multilayer_perceptron: MultilayerPerceptron | None = Field(
        None,
        description="Shape of the model of family MultilayerPerceptron. Unset means one hidden layer of 64 ReLU units.",
    )


class Engine(StrEnum):
    """Library that computes; Auto decides by family and workers."""

    AUTO = "Auto"
    NUMPY = "NumPy"
    TORCH = "Torch"


class LossType(StrEnum):
    """What training makes small; Auto decides by the task."""

    AUTO = "Auto"
    MEAN_SQUARED_ERROR = "MeanSquaredError"
    CROSS_ENTROPY = "CrossEntropy"


class Loss(Block):
    """What training makes small."""

    type: LossType = Field(
        LossType.AUTO,
        description="MeanSquaredError is 1/(2m) times the sum of squared errors; CrossEntropy the mean of -ln p(label). "
        "Auto: CrossEntropy for classification, else MeanSquaredError.",
    )


class OptimizerType(StrEnum):
    """Rule of the parameter updates; GradientDescent uses all rows for each step."""

    AUTO = "Auto"
    GRADIENT_DESCENT = "GradientDescent"
    SGD = "SGD"
    ADAM = "Adam"


class Optimizer(Block):
    """Rule of the parameter updates."""

    type: OptimizerType = Field(
        OptimizerType.AUTO,
        description="GradientDescent (all rows a step), SGD (mini-batches) or Adam. Auto: Adam.",
    )
    learning_rate: float | None = Field(None, gt=0, le=100, description="Size of a step. Unset means 0.001 for Adam, else 0.01.")


class Training(Block):
    """How the model is trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.optimizer.type != 'GradientDescent' || !has(self.batchSize)",
            "GradientDescent uses all rows: drop batchSize or use SGD",
        ),
    )

    engine: Engine = Field(
        Engine.AUTO,
        description="Library that computes. Auto: Torch with more than one worker or a GPU, else NumPy.",
    )
    epochs: int = Field(20, ge=1, le=INT32_MAX, description="Passes over the training part. Default 20.")
    batch_size: int | None = Field(
        None,
        ge=1,
        le=INT32_MAX,
        description="Rows of one step over ALL workers. Unset means 32, for GradientDescent all rows.",
    )
    seed: Seed = Field(0, description="Seed of initialisation and row order. Default 0.")
    loss: Loss = Field(default_factory=Loss, description="What training makes small.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="Rule of the parameter updates.")
