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


def only_with(discriminator: str, values: tuple[str, ...], *fields: str) -> list[Rule]:
    """Rules that each of the fields is set only where the discriminator has one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return [
        Rule(
            f"!has(self.{field}) || self.{discriminator} in [{listed}]",
            f"{field} goes with {discriminator} {' or '.join(values)}",
        )
        for field in fields
    ]


Seed = Annotated[int, Field(ge=0, le=INT32_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
MetricName = Annotated[str, Field(min_length=1, max_length=63)]


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
    JSON_LINES = "JSONLines"
    IMAGE_FOLDER = "ImageFolder"
    TEXT = "Text"


class Augmentation(StrEnum):
    """How pictures are changed each time that they are learned from."""

    NONE = "None"
    LIGHT = "Light"


class Image(Block):
    """How pictures become images of one size, and what is learned from them."""

    size_pixels: int = Field(
        224,
        ge=1,
        le=8192,
        description="Width and height that every picture is resized to, whatever its proportions, in pixels. Default 224.",
    )
    augmentation: Augmentation = Field(
        Augmentation.NONE,
        description="Light: each epoch learns from other versions of the training part's pictures, half of them mirrored left to "
        "right (not for letters or digits), all of them moved by up to a tenth of their size in each direction. Validation and "
        "test part stay as they are. Default None.",
    )


class Text(Block):
    """What text is learned from, and how it becomes tokens."""

    column: Name | None = Field(None, description="Column that holds the text, one a row. Unset for format Text.")
    max_tokens: int = Field(
        512,
        ge=2,
        le=65536,
        description="Tokens that the model sees at a time. To tell what a text is, what is longer is cut at its end; to go on "
        "with a text, it is learned from in pieces of so many. Default 512.",
    )
    vocabulary_size: int | None = Field(
        None,
        ge=512,
        le=1000000,
        description="Most different tokens: the bytes, and what is frequent in the training part (byte-level BPE); fewer where "
        "that is too small for so many. Unset means 8192; family Pretrained brings its tokens.",
    )


class ColumnType(StrEnum):
    """What a column is taken for; Auto is what it holds."""

    AUTO = "Auto"
    NUMERIC = "Numeric"
    CATEGORICAL = "Categorical"
    IDENTIFIER = "Identifier"


class DataColumn(Block):
    """A column, and what it is taken for."""

    name: Name = Field(description="Name of the column.")
    type: ColumnType = Field(
        ColumnType.AUTO,
        description="Numeric reads text as numbers and refuses what is none; Categorical takes numbers, dates and true/false as "
        "categories by their text (3, 2.5, 2026-01-31, true), which is what the served model then takes; Identifier is never "
        "learned from. Auto: numbers and true/false are numeric, text is categorical.",
    )


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
    ROBUST = "Robust"


class Encoding(StrEnum):
    """How categorical columns become numbers."""

    ONE_HOT = "OneHot"
    NONE = "None"
    ORDINAL = "Ordinal"
    HASH = "Hash"


class Outliers(StrEnum):
    """Which numbers of a column are outliers."""

    NONE = "None"
    IQR = "IQR"
    Z_SCORE = "ZScore"


class OutlierAction(StrEnum):
    """What happens to outliers."""

    CLIP = "Clip"
    DROP_ROW = "DropRow"


class TargetScaling(StrEnum):
    """How a target that is a number is scaled while the model is trained."""

    NONE = "None"
    STANDARD = "Standard"
    MIN_MAX = "MinMax"


class PreparationOverride(Block):
    """Other preparation of some columns."""

    columns: list[Annotated[str, Field(min_length=1, max_length=253)]] = Field(
        min_length=1, max_length=1024, description="Columns that it is for; a column may be in one override only."
    )
    missing_numeric: MissingNumeric | None = Field(None, description="As data.preparation.missingNumeric. Unset means that one.")
    missing_categorical: MissingCategorical | None = Field(
        None, description="As data.preparation.missingCategorical. Unset means that one."
    )
    outliers: Outliers | None = Field(None, description="As data.preparation.outliers. Unset means that one.")
    scaling: Scaling | None = Field(None, description="As data.preparation.scaling. Unset means that one.")
    encoding: Encoding | None = Field(None, description="As data.preparation.encoding. Unset means that one.")


class Preparation(Block):
    """Preparation of the data, fitted on the training part only and shipped with the model."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.outlierAction == 'Clip' || self.outliers != 'None' || "
            "(has(self.overrides) && !self.overrides.all(o, !has(o.outliers) || o.outliers == 'None'))",
            "outlierAction DropRow needs outliers IQR or ZScore, here or in overrides",
        ),
    )

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
        description="Scaling of numeric columns: Standard (mean 0, deviation 1), MinMax (0 to 1), Robust (median 0, "
        "interquartile range 1) or None. Default Standard.",
    )
    encoding: Encoding = Field(
        Encoding.ONE_HOT,
        description="Encoding of categorical columns: OneHot, Ordinal (one column, the number of the category in alphabetical "
        "order, scaled as numeric columns are), Hash (always 32 columns, of which a category sets one to 1 or -1, for any "
        "number of categories), or None, which refuses data that has any. Default OneHot.",
    )
    max_categories: int = Field(
        100,
        ge=2,
        le=INT32_MAX,
        description="Most categories that a column may have before the job is refused; Hash has no limit. Default 100.",
    )
    outliers: Outliers = Field(
        Outliers.NONE,
        description="Which numbers of the columns to learn from are outliers: IQR (further than 1.5 interquartile ranges below "
        "the first or above the third quartile), ZScore (further than 3 deviations from the mean) or None. Quartiles, mean and "
        "deviation are those of the training part; true/false and columns in which they leave no room have no outliers. "
        "Default None.",
    )
    outlier_action: OutlierAction = Field(
        OutlierAction.CLIP,
        description="What happens to outliers: Clip takes the nearest number that is none, in serving too; DropRow drops rows of "
        "the training part only and leaves all others as they are. Default Clip.",
    )
    target_scaling: TargetScaling | None = Field(
        None,
        description="Scaling of a target that is a number while the model is trained: Standard (mean 0, deviation 1), MinMax "
        "(0 to 1) or None. Losses, metrics and answers are in the target's own unit whatever it is. Unset means Standard, or "
        "None where scaling is None.",
    )
    overrides: list[PreparationOverride] | None = Field(
        None, min_length=1, max_length=64, description="Other preparation of some columns. Unset means the same for all."
    )


class SplitMethod(StrEnum):
    """How rows are dealt to the parts; Auto is Chronological for a sequence, Stratified for classification, else Random."""

    AUTO = "Auto"
    RANDOM = "Random"
    STRATIFIED = "Stratified"
    CHRONOLOGICAL = "Chronological"
    GROUP = "Group"


class Split(Block):
    """Division of the rows into training, validation and test part."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.validationPercent) ? self.validationPercent : 10) + (has(self.testPercent) ? self.testPercent : 10) <= 80",
            "validationPercent and testPercent must leave at least 20 to train on",
        ),
        not_both("validationPercent", "validationUri"),
        not_both("testPercent", "testUri"),
        Rule("has(self.groupColumn) == (self.method == 'Group')", "groupColumn goes with method Group"),
    )

    validation_percent: int | None = Field(
        None,
        ge=0,
        le=50,
        description="Share of the rows that the model is validated on each epoch, in percent. Unset means 10, or none where "
        "validationUri is set.",
    )
    test_percent: int | None = Field(
        None,
        ge=0,
        le=50,
        description="Share of the rows held out to test the finished model, in percent. Unset means 10, or none where testUri is "
        "set.",
    )
    validation_uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Where the rows are that the model is validated on each epoch, instead of a share of those of data.uri; read "
        "as these are, with the same format and secretRef. They need the same columns.",
    )
    test_uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Where the rows are that the finished model is tested on, instead of a share of those of data.uri; read as "
        "these are, with the same format and secretRef. They need the same columns.",
    )
    method: SplitMethod = Field(
        SplitMethod.AUTO,
        description="How rows are dealt to the parts: Random, Stratified (each class in the same proportion), Chronological (as "
        "they are stored, the first to train, the next to validate, the last to test: order them by time, in several files by "
        "their names; a sequence is in the order of its timeColumn), Group (all rows of a group to the same part, whose share is "
        "then met about). Auto: Chronological for data.sequence, Stratified for classification, else Random.",
    )
    group_column: Name | None = Field(
        None,
        description="Column that says which group a row belongs to, for method Group. It is learned from only if data.features "
        "names it.",
    )
    seed: Seed = Field(0, description="Seed of the random numbers that deal the rows; Chronological uses none. Default 0.")


class Sequence(Block):
    """Rows in the order of time, of which windows are learned from."""

    time_column: Name = Field(
        description="Column that says when a row was: numbers, dates or times (as text: 2026-01-31T12:00). It is learned from "
        "only if data.features names it."
    )
    group_column: Name | None = Field(
        None,
        description="Column that says which series a row belongs to. Unset means that all are of one. It is learned from only if "
        "data.features names it.",
    )
    window_steps: int = Field(
        24, ge=1, le=65536, description="Rows that the model sees at a time, one after the other in time. Default 24."
    )
    horizon_steps: int = Field(
        1, ge=1, le=65536, description="How many rows after the last one of a window the target is predicted. Default 1."
    )


class Data(Block):
    """The rows to learn from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("uri", "configMapRef", "sample"),
        not_both("target", "sample"),
        not_both("columns", "sample"),
        Rule(
            "has(self.target) || has(self.sample) || has(self.text) || self.format == 'ImageFolder'",
            "data.target: name the column to predict",
        ),
        Rule(
            "self.format != 'ImageFolder' || (has(self.uri) && !has(self.target) && !has(self.features) && !has(self.columns))",
            "format ImageFolder needs uri, and has neither target (that is a folder's name) nor features nor columns",
        ),
        Rule(
            "self.format != 'ImageFolder' || self.split.method in ['Auto', 'Random', 'Stratified']",
            "pictures in folders have neither order nor groups: use split.method Stratified, Random or Auto",
        ),
        *only_with("format", ("ImageFolder",), "image"),
        Rule(
            "!has(self.text) || !(has(self.sample) || has(self.sequence) || has(self.features))",
            "data.text is all that is learned from: drop features, sequence and sample",
        ),
        Rule(
            "!has(self.text) || has(self.text.column) == (self.format != 'Text')",
            "text.column names the column of text, and files of format Text have none",
        ),
        Rule(
            "self.format != 'Text' || (has(self.text) && has(self.uri) && !has(self.target) && !has(self.columns))",
            "format Text needs uri and text, and has neither target nor columns",
        ),
        Rule(
            "self.format != 'Text' || self.split.method in ['Auto', 'Random', 'Chronological']",
            "texts in files have neither classes nor groups: use split.method Chronological, Random or Auto",
        ),
        not_both("sequence", "sample"),
        Rule(
            "!has(self.sequence) || self.split.method in ['Auto', 'Chronological', 'Group']",
            "windows of a sequence need rows that follow each other: use split.method Chronological, Group or Auto",
        ),
        Rule(
            "!has(self.sequence) || (self.preparation.duplicates != 'Drop' && self.preparation.missingNumeric != 'DropRow' && "
            "self.preparation.missingCategorical != 'DropRow' && self.preparation.outlierAction != 'DropRow' && "
            "(!has(self.preparation.overrides) || self.preparation.overrides.all(o, "
            "(!has(o.missingNumeric) || o.missingNumeric != 'DropRow') && "
            "(!has(o.missingCategorical) || o.missingCategorical != 'DropRow'))))",
            "no row of a sequence can be dropped: its windows would have gaps",
        ),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
        Rule(
            "has(self.uri) || !(has(self.split.validationUri) || has(self.split.testUri))",
            "split.validationUri and split.testUri go with uri",
        ),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Where the rows are: s3://bucket/path or pvc://claim/path; a path may hold * to name several files. "
        "For format ImageFolder it is the folder that holds a folder for each class.",
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
        description="How the rows are stored; JSONLines is an object a row, ImageFolder a folder for each class that holds its "
        "pictures (PNG, JPEG), Text a text in UTF-8 in each file, or one long text in a single one. Auto decides by the file "
        "name's ending (.csv, .parquet, .npz, .jsonl, .ndjson). "
        "Family ConvolutionalNetwork learns from ImageFolder, or from NPZ with an array of images [rows, height, width] or "
        "[rows, height, width, channels].",
    )
    image: Image | None = Field(
        None,
        description="How pictures become images of one size (format ImageFolder). Unset means 224 by 224 pixels, "
        "each learned from as it is.",
    )
    target: str | None = Field(None, min_length=1, max_length=253, description="Column to predict.")
    features: list[Annotated[str, Field(min_length=1, max_length=253)]] | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="Columns to learn from. Unset means all others; of a sequence the target too, whose past is known; of images "
        "in NPZ files the only array of them.",
    )
    sequence: Sequence | None = Field(
        None, description="What windows of rows are learned from: goes with family RecurrentNetwork."
    )
    text: Text | None = Field(None, description="What text is learned from: goes with families Transformer and Pretrained.")
    columns: list[DataColumn] | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="What columns are taken for, each at most once. Unset means Auto for all.",
    )
    preparation: Preparation = Field(
        default_factory=Preparation, description="Preparation of the data, fitted on the training part only."
    )
    split: Split = Field(default_factory=Split, description="Division of the rows into training, validation and test part.")


class Family(StrEnum):
    """Model families."""

    LINEAR_REGRESSION = "LinearRegression"
    LOGISTIC_REGRESSION = "LogisticRegression"
    PERCEPTRON = "Perceptron"
    MULTILAYER_PERCEPTRON = "MultilayerPerceptron"
    CONVOLUTIONAL_NETWORK = "ConvolutionalNetwork"
    RECURRENT_NETWORK = "RecurrentNetwork"
    TRANSFORMER = "Transformer"
    PRETRAINED = "Pretrained"


TORCH_FAMILIES = frozenset({Family.CONVOLUTIONAL_NETWORK, Family.RECURRENT_NETWORK, Family.TRANSFORMER, Family.PRETRAINED})
"""Families that only the torch engine has."""


class Activation(StrEnum):
    """Non-linearity between layers."""

    RELU = "ReLU"
    TANH = "Tanh"
    SIGMOID = "Sigmoid"
    GELU = "GELU"
    SILU = "SiLU"
    LEAKY_RELU = "LeakyReLU"


class MultilayerPerceptron(Block):
    """Shape of a multi-layer perceptron."""

    hidden_layers: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [64],
        min_length=1,
        max_length=32,
        description="Number of units of each hidden layer, first to last. Default [64].",
    )
    activation: Activation = Field(
        Activation.RELU,
        description="Non-linearity after each hidden layer; GELU by its tanh approximation, LeakyReLU of slope 0.01. "
        "Default ReLU.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a hidden layer's units that a training step leaves out, drawn anew each step. Default 0.",
    )


class Pooling(StrEnum):
    """What halves width and height after a convolution."""

    MAX = "Max"
    AVERAGE = "Average"
    NONE = "None"


class ImageNormalization(StrEnum):
    """What the outputs of a convolution are brought to mean 0 and deviation 1 over."""

    BATCH = "Batch"
    NONE = "None"
    LAYER = "Layer"


class ConvolutionalNetwork(Block):
    """Shape of a convolutional network: convolutions, then dense layers."""

    channels: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [32, 64],
        min_length=1,
        max_length=32,
        description="Number of channels of each convolution, first to last. Default [32, 64].",
    )
    kernel_size: int = Field(
        3, ge=1, le=31, description="Width and height of each convolution's kernel, in pixels; the border is zeros. Default 3."
    )
    pooling: Pooling = Field(
        Pooling.MAX,
        description="What halves width and height after each convolution: Max or Average of 2 by 2 pixels, or None. Default Max.",
    )
    hidden_layers: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=lambda: [128],
        min_length=1,
        max_length=32,
        description="Number of units of each dense hidden layer after the convolutions, first to last. Default [128].",
    )
    activation: Activation = Field(
        Activation.RELU,
        description="Non-linearity after each convolution and each hidden layer; GELU by its tanh approximation, LeakyReLU of "
        "slope 0.01. Default ReLU.",
    )
    normalization: ImageNormalization = Field(
        ImageNormalization.BATCH,
        description="What follows each convolution: Batch (mean 0, deviation 1 of each channel over the images of a step, on all "
        "workers; of a part of them with gradients.accumulationSteps; in serving over those of the training), Layer (over the "
        "channels and pixels of an image) or None; both with a learned scale and shift of each channel. Default Batch.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a hidden layer's units that a training step leaves out, drawn anew each step. Default 0.",
    )


class Cell(StrEnum):
    """What remembers from one step to the next."""

    LSTM = "LSTM"
    GRU = "GRU"
    PLAIN = "Plain"


class Direction(StrEnum):
    """Which way a window is read."""

    FORWARD = "Forward"
    BIDIRECTIONAL = "Bidirectional"


class RecurrentNetwork(Block):
    """Shape of a recurrent network: its state after a window, then one dense layer."""

    cell: Cell = Field(
        Cell.LSTM,
        description="What remembers from one step to the next: LSTM, GRU or Plain (tanh of the input and the state before). "
        "Default LSTM.",
    )
    hidden_size: int = Field(64, ge=1, le=65536, description="Number of units of each layer and direction. Default 64.")
    layers: int = Field(
        1, ge=1, le=64, description="Number of layers, each of which reads what the one before it says. Default 1."
    )
    direction: Direction = Field(
        Direction.FORWARD,
        description="Forward reads a window from its first row to its last, Bidirectional by as many units more the other way "
        "round too. Default Forward.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of a layer's outputs that a training step leaves out, drawn anew each step. Default 0.",
    )


class TransformerArchitecture(StrEnum):
    """What a transformer is for."""

    ENCODER = "Encoder"
    DECODER = "Decoder"


class PositionalEncoding(StrEnum):
    """What tells a transformer where in the text a token stands."""

    LEARNED = "Learned"
    SINUSOIDAL = "Sinusoidal"


class TextPooling(StrEnum):
    """What an encoder says of a whole text."""

    MEAN = "Mean"
    FIRST = "First"


class Transformer(Block):
    """Shape of a transformer: layers of attention and two dense layers each, normalised before both."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.modelSize % self.heads == 0", "modelSize must be a multiple of heads"),
        *only_with("architecture", ("Encoder",), "pooling"),
    )

    architecture: TransformerArchitecture = Field(
        TransformerArchitecture.ENCODER,
        description="Encoder reads a whole text and tells its class or number (data.target); Decoder goes on with a text, of "
        "which it learns each next token from those before it (without data.target). Default Encoder.",
    )
    layers: int = Field(4, ge=1, le=256, description="Number of layers. Default 4.")
    heads: int = Field(4, ge=1, le=256, description="Attention heads of each layer. Default 4.")
    model_size: int = Field(128, ge=1, le=65536, description="Numbers that stand for a token, a multiple of heads. Default 128.")
    feed_forward_size: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Units of the hidden dense layer after each attention. Unset means four times modelSize.",
    )
    activation: Activation = Field(
        Activation.GELU,
        description="Non-linearity of the hidden dense layers; GELU by its tanh approximation, LeakyReLU of slope 0.01. "
        "Default GELU.",
    )
    positional_encoding: PositionalEncoding = Field(
        PositionalEncoding.LEARNED,
        description="What tells where in the text a token stands: Learned, or Sinusoidal, which has no parameters. "
        "Default Learned.",
    )
    pooling: TextPooling | None = Field(
        None,
        description="Encoder: what the answer is computed from, the Mean over the tokens or the First one, which stands before "
        "each text. Unset means Mean.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        le=0.95,
        description="Share of what attention and dense layers say, of the attention itself and of the first layer's input that a "
        "training step leaves out, drawn anew each step. Default 0.",
    )


class FineTuning(StrEnum):
    """Which weights of a pretrained model are learned further."""

    FULL = "Full"
    LORA = "LoRA"


class LoRA(Block):
    """Small matrices that are learned beside those of a model (Hu et al. 2022), and added to them in the end."""

    rank: int = Field(8, ge=1, le=1024, description="Rows of the first and columns of the second matrix. Default 8.")
    alpha: float = Field(16, gt=0, le=4096, description="The product of the two counts alpha / rank times. Default 16.")
    dropout: float = Field(
        0.0, ge=0, le=0.95, description="Share of a layer's inputs that its small matrices do not see in a step. Default 0."
    )
    target_modules: list[Name] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Layers that get such matrices, by the ends of their names (q_proj, v_proj). Unset means all dense layers "
        "but the last.",
    )


class Pretrained(Block):
    """A model that somebody trained on other text, to be learned further."""

    rules: ClassVar[tuple[Rule, ...]] = (*only_with("method", ("LoRA",), "lora"),)

    uri: str = Field(
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Folder of the model as Transformers saves it: config.json, *.safetensors and tokenizer.json. Code in it is "
        "never run, other formats of weights are refused. With data.target it tells classes or numbers, by a last layer that "
        "begins anew; without, it goes on with text.",
    )
    secret_ref: Reference | None = Field(
        None,
        description="Secret with the keys of the store (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...).",
    )
    method: FineTuning = Field(
        FineTuning.FULL,
        description="Full learns all weights further; LoRA small matrices beside them, with far less memory for the optimizer. "
        "The saved model is whole either way. Default Full.",
    )
    lora: LoRA | None = Field(None, description="The small matrices of method LoRA. Unset means its defaults.")


class InitializationMethod(StrEnum):
    """How weights are drawn; Auto decides by the activation."""

    AUTO = "Auto"
    ZEROS = "Zeros"
    NORMAL = "Normal"
    UNIFORM = "Uniform"
    XAVIER_NORMAL = "XavierNormal"
    XAVIER_UNIFORM = "XavierUniform"
    HE_NORMAL = "HeNormal"
    HE_UNIFORM = "HeUniform"
    ORTHOGONAL = "Orthogonal"


class Initialization(Block):
    """First values of the weights; biases start at zero."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.scale) || !(self.method in ['Auto', 'Zeros'])", "scale goes with a method that draws"),
    )

    method: InitializationMethod = Field(
        InitializationMethod.AUTO,
        description="How weights are drawn. Auto: Zeros without hidden layers, He for ReLU and its kin, else (and for "
        "Transformer) Xavier. "
        "The last of several layers is drawn by Xavier where the method is He, for no ReLU follows it.",
    )
    scale: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Normal: standard deviation, unset 0.01. Uniform: bound, unset 0.05. Others: factor, unset 1.",
    )


class StartFrom(Block):
    """A model to go on from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.uri) != has(self.trainingJobRef)", "startFrom needs either uri or trainingJobRef"),
        Rule("!has(self.secretRef) || has(self.uri)", "secretRef goes with uri"),
    )

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        json_schema_extra={"x-eagleray-uri": True},
        description="Folder of a bundle: s3://bucket/path or pvc://claim/path.",
    )
    training_job_ref: Reference | None = Field(
        None, description="TrainingJob whose model it is; this one waits until that has succeeded."
    )
    secret_ref: Reference | None = Field(
        None, description="Secret with the keys of the store (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ...)."
    )


class Model(Block):
    """What is trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.startFrom) || !(self.family in ['Transformer', 'Pretrained'])",
            "startFrom does not go with families Transformer and Pretrained, whose tokens are others: drop it",
        ),
        Rule(
            "!has(self.startFrom) || self.initialization.method == 'Auto'",
            "startFrom brings the first weights: drop initialization",
        ),
        Rule(
            "!has(self.multilayerPerceptron) || self.family == 'MultilayerPerceptron'",
            "multilayerPerceptron goes with family MultilayerPerceptron",
        ),
        *only_with("family", ("ConvolutionalNetwork",), "convolutionalNetwork"),
        *only_with("family", ("RecurrentNetwork",), "recurrentNetwork"),
        *only_with("family", ("Transformer",), "transformer"),
        Rule("has(self.pretrained) == (self.family == 'Pretrained')", "pretrained and family Pretrained go together"),
        Rule(
            "self.family != 'Pretrained' || (self.initialization.method == 'Auto' && !has(self.initialization.scale))",
            "a pretrained model has its weights: drop initialization",
        ),
    )

    family: Family = Field(
        description="Model family. Perceptron is the classic learning rule: labels without probabilities. ConvolutionalNetwork "
        "learns from images, RecurrentNetwork from windows of rows (data.sequence), Transformer from text (data.text), "
        "Pretrained from text too, beginning with a model that was trained before; all with engine Torch."
    )
    initialization: Initialization = Field(
        default_factory=Initialization, description="First values of the weights; biases start at zero."
    )
    start_from: StartFrom | None = Field(
        None,
        description="Model whose weights training goes on from, instead of drawing them; the optimiser starts anew. It must have "
        "the same shape, columns and classes, and its preparation is taken as it is. Unset means none.",
    )
    multilayer_perceptron: MultilayerPerceptron | None = Field(
        None,
        description="Shape of the model of family MultilayerPerceptron. Unset means one hidden layer of 64 ReLU units.",
    )
    convolutional_network: ConvolutionalNetwork | None = Field(
        None, description="Shape of the model of family ConvolutionalNetwork. Unset means its defaults."
    )
    recurrent_network: RecurrentNetwork | None = Field(
        None, description="Shape of the model of family RecurrentNetwork. Unset means its defaults."
    )
    transformer: Transformer | None = Field(
        None, description="Shape of the model of family Transformer. Unset means its defaults, an encoder."
    )
    pretrained: Pretrained | None = Field(None, description="The model that family Pretrained begins with.")

    @property
    def is_decoder(self) -> bool:
        """Does it learn to go on with a text?"""
        return self.transformer is not None and self.transformer.architecture is TransformerArchitecture.DECODER


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
        description="Size of a step. Unset means 0.001 for Adam and AdamW, 1 for family Perceptron, else 0.01.",
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
        "ReduceOnPlateau: times factor when the validation loss has not improved for everyEpochs. Default Constant.",
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
        "the same. Auto: FSDP where model, gradients and optimiser's state take more than half of a GPU's memory, else DDP.",
    )
    activation_checkpointing: ActivationCheckpointing = Field(
        ActivationCheckpointing.NONE,
        description="Full: only what goes into each hidden layer or convolution is remembered, and the rest computed again for "
        "the gradients: less memory, a third more time, the same model. For families MultilayerPerceptron and "
        "ConvolutionalNetwork (there with normalization Layer or None). Default None.",
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
        description="Library that computes. Auto: Torch for families ConvolutionalNetwork, RecurrentNetwork, Transformer and "
        "Pretrained, with more than one worker, with a GPU or with what only it has (compile, activationCheckpointing, other "
        "precisions than Float64), else NumPy.",
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


class EvaluatedPart(StrEnum):
    """Part of the data that a gate looks at."""

    TEST = "Test"
    VALIDATION = "Validation"
    CROSS_VALIDATION = "CrossValidation"


class Bound(StrEnum):
    """What of a metric a gate looks at."""

    VALUE = "Value"
    PESSIMISTIC = "Pessimistic"


class Gate(Block):
    """What a model must come up to before a deployment follows its job."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.min) || has(self.max)", "a gate needs min or max"),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min of a gate is above its max"),
        Rule("self.part != 'CrossValidation' || self.bound == 'Value'", "bound Pessimistic goes with part Test or Validation"),
    )

    metric: MetricName = Field(description="Metric of the task, such as Accuracy or R2.")
    part: EvaluatedPart = Field(
        EvaluatedPart.TEST,
        description="Part of the data: Test, Validation, or CrossValidation, the mean over its folds. Default Test.",
    )
    bound: Bound = Field(
        Bound.VALUE,
        description="Value: the metric itself. Pessimistic: the end of its confidence interval that is worse for the gate. "
        "Default Value.",
    )
    min: float | None = Field(None, description="Least value that passes.")
    max: float | None = Field(None, description="Largest value that passes.")


class CrossValidation(Block):
    """Training on other parts of the rows, each time measured on those left out."""

    folds: int = Field(5, ge=2, le=50, description="Parts of the rows that are not test rows, and trainings on them. Default 5.")


class Evaluation(Block):
    """How the finished model is measured, and what it must come up to."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.crossValidation) || !self.gates.exists(gate, gate.part == 'CrossValidation')",
            "a gate on part CrossValidation needs crossValidation",
        ),
    )

    metrics: list[MetricName] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Metrics to tell. Classes: Accuracy, BalancedAccuracy, Precision, Recall, F1, ROCAUC, AveragePrecision, "
        "LogLoss; of two classes those of the second by name, of more the mean over the classes. Numbers: MSE, RMSE, MAE, "
        "MAPE, R2. Text to go on with: Perplexity, LogLoss, of each next token. Unset means Accuracy, F1, ROCAUC and LogLoss, or "
        "RMSE, MAE and R2, or Perplexity and LogLoss.",
    )
    confidence_percent: int = Field(
        95, ge=50, le=99, description="Confidence of the intervals on validation and test part, in percent. Default 95."
    )
    cross_validation: CrossValidation | None = Field(
        None,
        description="Train on other parts of the rows before the model itself, to tell the mean and deviation of its metrics. "
        "Unset means none.",
    )
    gates: list[Gate] = Field(
        default_factory=list,
        max_length=16,
        description="What the model must come up to; one that does not is saved, and no deployment follows it.",
    )
