"""What a job learns from: rows, columns, preparation and the parts that they are split into."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from eagleray_runtime.contract import stores
from eagleray_runtime.contract.blocks.base import (
    INT32_MAX,
    Block,
    KeyReference,
    Name,
    Reference,
    Rule,
    Seed,
    exactly_one_of,
    not_both,
    only_with,
)


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


class Loading(StrEnum):
    """Where rows are while they are learned from."""

    MEMORY = "Memory"
    STREAM = "Stream"


class Augmentation(StrEnum):
    """How pictures are changed each time that they are learned from."""

    NONE = "None"
    LIGHT = "Light"
    STRONG = "Strong"


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
        "right (not for letters or digits), all of them moved by up to a tenth of their size in each direction. Strong: besides, "
        "all are turned by up to 15 degrees, zoomed by up to a quarter, with other contrast and brightness, and a rectangle of "
        "half of them is covered. Validation and test part stay as they are. Default None.",
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
        "categories by their text, which is what the served model then takes: in CSV as it is written (007, 2.50, True), "
        "elsewhere 7, 2.5, 2026-01-31, true; Identifier is never learned from. Auto: numbers and true/false are numeric, text is "
        "categorical.",
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
        not_both("features", "sample"),
        Rule("!has(self.sample) || self.format == 'Auto'", "a sample is made and not read from a file: drop format"),
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
            "self.loading == 'Memory' || (has(self.uri) && has(self.target) && !has(self.sequence) && !has(self.text) && "
            "self.format in ['Auto', 'CSV', 'Parquet', 'JSONLines'])",
            "loading Stream reads rows of CSV, Parquet or JSON Lines from uri, and needs a target: drop sequence and text, or "
            "use Memory",
        ),
        Rule(
            "self.loading == 'Memory' || (self.split.method in ['Auto', 'Random'] && !has(self.split.validationUri) && "
            "!has(self.split.testUri))",
            "loading Stream deals each row by itself: use split.method Random or Auto, without validationUri and testUri",
        ),
        Rule(
            "self.loading == 'Memory' || (!(self.preparation.missingNumeric in ['Median', 'MostFrequent']) && "
            "self.preparation.duplicates == 'Keep' && self.preparation.scaling != 'Robust' && "
            "self.preparation.outliers != 'IQR' && self.preparation.outlierAction == 'Clip' && "
            "(!has(self.preparation.overrides) || self.preparation.overrides.all(o, "
            "(!has(o.missingNumeric) || !(o.missingNumeric in ['Median', 'MostFrequent'])) && "
            "(!has(o.scaling) || o.scaling != 'Robust') && (!has(o.outliers) || o.outliers != 'IQR'))))",
            "loading Stream never sees all rows at once: no missingNumeric Median or MostFrequent, duplicates Drop or Error, "
            "scaling Robust, outliers IQR or outlierAction DropRow",
        ),
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
        description=f"Where the rows are: {stores.PLACE}; a path may hold * to name several files. "
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
        description=stores.KEYS,
    )
    format: DataFormat = Field(
        DataFormat.AUTO,
        description="How the rows are stored; JSONLines is an object a row, ImageFolder a folder for each class that holds its "
        "pictures (PNG, JPEG), Text a text in UTF-8 in each file, or one long text in a single one. Auto decides by the file "
        "name's ending (.csv, .tsv, .parquet, .npz, .jsonl, .ndjson, with .gz behind it if it is packed). The header of "
        "CSV shows what separates its fields: a comma, semicolon, tab or bar; where it is no comma, 1,5 is read as 1.5. "
        "Families ConvolutionalNetwork and Custom learn from ImageFolder, and from NPZ with an array of images "
        "[rows, height, width] or [rows, height, width, channels].",
    )
    loading: Loading = Field(
        Loading.MEMORY,
        description="Where the rows are while they are learned from. Memory: in the memory of each worker, and of the driver, "
        "which reads them. Stream: in the store, from where each worker reads its share anew in each epoch, some at a time (of "
        "Parquet a row group); for rows that are more than the memory. Default Memory.",
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
        description="Columns to learn from. Unset means all others that have a name and are no index of pandas; of a sequence "
        "the target too, whose past is known; of images in NPZ files the only array of them.",
    )
    sequence: Sequence | None = Field(
        None, description="What windows of rows are learned from: goes with families RecurrentNetwork and Custom."
    )
    text: Text | None = Field(
        None, description="What text is learned from: goes with families Transformer, Pretrained and Custom."
    )
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
