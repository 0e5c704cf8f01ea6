"""What `bundle.json` holds; its sha256 is the digest of the whole bundle, for it names the sha256 of every other file."""

from typing import Annotated, Any, Literal

from pydantic import Field

from eagleray_runtime.contract.blocks import Block, Family, Sequence
from eagleray_runtime.contract.reports import Choice, DataReport, HistoryPoint, Metric, SearchReport
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.preparation import Preparation
from eagleray_runtime.models.architecture import Architecture
from eagleray_runtime.models.heads import Head

MANIFEST = "bundle.json"
IMAGE, TEXT = "image", "text"
"""Names of the input of a model that takes images or text."""

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Tensor(Block):
    """An input or output in the terms of the Open Inference Protocol; -1 is the number of rows."""

    name: str
    datatype: Literal["FP64", "BYTES"]
    shape: list[int]


class Signature(Block):
    """What the model takes and gives.

    With numeric columns only, `inputs` is the one tensor `features` [-1, columns]; a tensor a column [-1] is taken as well.
    Images are the one tensor `image`: FP64 [-1, height, width, channels], or BYTES [-1] where it holds PNG or JPEG files, in
    binary tensors as they are, in JSON in base64. Windows of rows are as rows are, with the steps after the number of windows:
    `features` [-1, steps, columns], or a tensor a column [-1, steps]. Text is the one tensor `text` BYTES [-1].
    """

    inputs: list[Tensor]
    outputs: list[Tensor]


class Coefficients(Block):
    """A linear model in the original units: output = intercept + sum of weight * column."""

    output: str
    intercept: float
    weights: dict[str, float]


class Lineage(Block):
    """Where the model comes from; `started_from` is the digest of the bundle whose weights its training began with."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    seed: int
    split_seed: int
    started_from: str | None = None


class File(Block):
    """A file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Block):
    """The manifest.

    It holds nothing that depends on how often a run was interrupted: a resumed run writes the same bundle. `code` are the
    bundle's files with the code of a network of the user's own, by their names there; `read_bundle` puts their texts into the
    architecture, which has none here. `confidence_percent` is that of the metrics' intervals; a bundle of before may not tell it.
    """

    schema_version: Literal[1] = 1
    family: Family
    task: Literal["Regression", "Classification", "LanguageModeling"]
    engine: Literal["NumPy", "Torch"]
    architecture: Architecture
    signature: Signature
    preparation: Preparation
    sequence: Sequence | None = None
    target: str
    classes: list[str]
    metrics: list[Metric]
    confidence_percent: int | None = None
    history: list[HistoryPoint]
    coefficients: list[Coefficients] | None = None
    lineage: Lineage
    data: DataReport
    chosen: list[Choice]
    search: SearchReport | None = None
    epochs: int
    steps: int
    weights: FileName
    tokenizer: FileName | None = None
    code: dict[str, FileName] = Field(default_factory=dict)
    files: dict[FileName, File]
    example: dict[str, Any]


def signature(preparation: Preparation, head: Head, classes: list[str], sequence: Sequence | None) -> Signature:
    """The signature of a model with this head on data prepared so, of windows if there is a sequence."""
    images = preparation.images
    steps = [] if sequence is None else [sequence.window_steps]
    if images is not None:
        inputs = [_image(images)]
    elif preparation.text is not None:
        inputs = [Tensor(name=TEXT, datatype="BYTES", shape=[-1])]
    elif preparation.categorical:
        inputs = [
            Tensor(name=column.name, datatype="FP64" if column.kind == "Numeric" else "BYTES", shape=[-1, *steps])
            for column in preparation.columns
        ]
    else:
        inputs = [Tensor(name="features", datatype="FP64", shape=[-1, *steps, len(preparation.columns)])]
    if head == "NextToken":
        return Signature(inputs=inputs, outputs=[Tensor(name="continuation", datatype="BYTES", shape=[-1])])
    if head == "Identity":
        return Signature(inputs=inputs, outputs=[Tensor(name="prediction", datatype="FP64", shape=[-1])])
    return Signature(
        inputs=inputs,
        outputs=[
            Tensor(name="label", datatype="BYTES", shape=[-1]),
            Tensor(name="scores" if head == "Argmax" else "probabilities", datatype="FP64", shape=[-1, len(classes)]),
        ],
    )


def _image(images: ImageColumn) -> Tensor:
    if images.form == "Files":
        return Tensor(name=IMAGE, datatype="BYTES", shape=[-1])
    return Tensor(name=IMAGE, datatype="FP64", shape=[-1, *images.shape])


def example_request(preparation: Preparation, row: dict[str, Any]) -> dict[str, Any]:
    """An inference request (JSON) of one row, image, text or window; of a window `row` holds a list for each column."""
    images = preparation.images
    if images is not None:
        tensor = _image(images)
        value = {"name": tensor.name, "shape": [1, *tensor.shape[1:]], "datatype": tensor.datatype, "data": [row[images.name]]}
        return {"inputs": [value]}
    if preparation.text is not None:
        return {"inputs": [{"name": TEXT, "shape": [1], "datatype": "BYTES", "data": [row[preparation.text.name]]}]}
    if not preparation.categorical:
        data = [row[column.name] for column in preparation.columns]
        shape = [1, len(data)]
        if isinstance(data[0], list):
            data = [list(values) for values in zip(*data, strict=True)]
            shape = [1, len(data), len(data[0])]
        return {"inputs": [{"name": "features", "shape": shape, "datatype": "FP64", "data": data}]}
    return {
        "inputs": [
            {
                "name": column.name,
                "shape": [1, len(row[column.name])] if isinstance(row[column.name], list) else [1],
                "datatype": "FP64" if column.kind == "Numeric" else "BYTES",
                "data": [row[column.name]],
            }
            for column in preparation.columns
        ]
    }
