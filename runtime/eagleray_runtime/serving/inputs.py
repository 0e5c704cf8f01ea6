"""From a request's tensors to the prepared rows that a model computes with."""

import collections.abc
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from eagleray_runtime.arrays import AnyArray, Floats, Texts
from eagleray_runtime.bundle.manifest import IMAGE, TEXT
from eagleray_runtime.contract.blocks import Sequence
from eagleray_runtime.data.encoding import MissingValueError
from eagleray_runtime.data.images import ImageColumn
from eagleray_runtime.data.preparation import Preparation, Transform
from eagleray_runtime.data.texts import TextColumn, padded
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.serving.tensors import BadTensorError, Tensor

if TYPE_CHECKING:
    from eagleray_runtime.data.tokenization import Tokenizer

FEATURES = "features"
PICTURE_WORK = 50_000_000
"""Decoding a picture of a camera takes about as long as so many multiplications."""

TEXT_BYTE_WORK = 1500
"""A byte of text is turned into tokens in about as long as so many multiplications take."""

Tensors: TypeAlias = collections.abc.Sequence[Tensor]


class Inputs(Protocol):
    """What a model takes.

    `files` are the inputs whose elements are files; `about` is what its metadata say beside the signature; `work` is what
    preparing a row takes, in multiplications, where that is as much as to compute it; `byte_work` is the same of each byte of
    a request.
    """

    files: frozenset[str]
    about: dict[str, str]
    work: int
    byte_work: int

    def prepared(self, inputs: Tensors) -> AnyArray:
        """Prepared rows as the model's architecture takes them.

        Raises:
            BadTensorError: the inputs are not those of the model.
        """
        ...


def inputs_of(preparation: Preparation, sequence: Sequence | None, tokenizer: bytes | None = None) -> Inputs:
    """What a model with this preparation takes, windows if there is a sequence, text by a tokenizer's file.

    Raises:
        ModelInvalid: this installation cannot read it.
    """
    if preparation.text is not None:
        return Documents(preparation.text, tokenizer)
    images = preparation.images
    if images is None:
        return Columns(preparation) if sequence is None else Windows(preparation, sequence.window_steps)
    return Pictures(images) if images.form == "Files" else Images(images)


class Columns:
    """The columns of a table, in one tensor or one for each."""

    files: frozenset[str] = frozenset()
    about: dict[str, str] = {}  # noqa: RUF012
    work = byte_work = 0

    def __init__(self, preparation: Preparation) -> None:
        self._transform = Transform(preparation)
        self._columns = [column.name for column in preparation.columns]
        self._numeric = self._transform.numeric_names
        self._categorical = frozenset(self._transform.categorical_names)
        self._width = len(self._columns)

    def prepared(self, inputs: Tensors) -> Floats:
        """Float64 [rows, prepared columns]."""
        numbers, texts = self._rows(inputs)
        if not np.isfinite(numbers).all() and np.isinf(numbers).any():
            raise BadTensorError("an input holds infinity: send a number, or null where a value is missing")
        try:
            return self._transform(numbers, texts)
        except MissingValueError as error:
            raise BadTensorError(str(error)) from error

    def _rows(self, inputs: Tensors) -> tuple[Floats, dict[str, Texts]]:
        """Numeric columns as one matrix, categorical ones by name."""
        if len(inputs) == 1 and inputs[0].name == FEATURES and not self._categorical and self._columns != [FEATURES]:
            values = inputs[0].values
            if values.ndim != 2 or values.shape[1] != self._width:
                raise BadTensorError(
                    f"input {FEATURES}: the shape is {list(values.shape)}, expected [-1, {self._width}], "
                    f"the columns {', '.join(self._columns)}"
                )
            if values.dtype != np.float64:
                raise BadTensorError(f"input {FEATURES}: the datatype is BYTES, expected a number")
            return values, {}
        return self._by_column(inputs)

    def _by_column(self, inputs: Tensors) -> tuple[Floats, dict[str, Texts]]:
        columns: dict[str, AnyArray] = {}
        rows: int | None = None
        for tensor in inputs:
            name, values = tensor.name, tensor.values
            if name not in self._columns:
                raise BadTensorError(f"input {name} is not one of the model: it takes {self._expected()}")
            if name in columns:
                raise BadTensorError(f"input {name} is given twice")
            if (values.dtype == np.object_) is not (name in self._categorical):
                raise BadTensorError(f"input {name}: expected {'BYTES' if name in self._categorical else 'a number'}")
            if values.ndim == 2 and values.shape[1] == 1:
                values = values[:, 0]
            if values.ndim != 1:
                raise BadTensorError(f"input {name}: the shape is {list(values.shape)}, expected [-1]")
            if rows not in (None, len(values)):
                raise BadTensorError(f"input {name} has {len(values)} rows, the inputs before it {rows}")
            columns[name], rows = values, len(values)
        missing = [name for name in self._columns if name not in columns]
        if missing:
            raise BadTensorError(f"inputs missing: {', '.join(missing)}: the model takes {self._expected()}")
        numbers = np.empty((rows or 0, len(self._numeric)))
        for index, name in enumerate(self._numeric):
            numbers[:, index] = columns[name]
        return numbers, {name: columns[name] for name in self._categorical}

    def _expected(self) -> str:
        by_column = ", ".join(self._columns)
        return by_column if self._categorical else f"{FEATURES} [-1, {self._width}] or a tensor for each of {by_column}"


class Windows:
    """Rows that follow each other in time, in one tensor or one for each column."""

    files: frozenset[str] = frozenset()
    about: dict[str, str] = {}  # noqa: RUF012
    work = byte_work = 0

    def __init__(self, preparation: Preparation, steps: int) -> None:
        self._columns, self._steps, self._width = Columns(preparation), steps, len(preparation.columns)

    def prepared(self, inputs: Tensors) -> AnyArray:
        """Float32 [windows, steps, prepared columns]."""
        rows = self._columns.prepared([self._row_by_row(tensor) for tensor in inputs])
        return rows.reshape(-1, self._steps, rows.shape[1]).astype(np.float32)

    def _row_by_row(self, tensor: Tensor) -> Tensor:
        """The same with the rows of all windows one after the other."""
        shape = tensor.values.shape
        if len(shape) < 2 or shape[1] != self._steps or (len(shape) == 3 and shape[2] != self._width):
            expected = f"[-1, {self._steps}{f', {self._width}' if tensor.name == FEATURES else ''}]"
            raise BadTensorError(
                f"input {tensor.name}: the shape is {list(shape)}, expected {expected}, windows of {self._steps} rows"
            )
        return Tensor(tensor.name, tensor.values.reshape(-1, *shape[2:]))


class Images:
    """Images as numbers."""

    files: frozenset[str] = frozenset()
    about: dict[str, str] = {}  # noqa: RUF012
    work = byte_work = 0

    def __init__(self, images: ImageColumn) -> None:
        self._images = images

    def prepared(self, inputs: Tensors) -> AnyArray:
        """Float32 [rows, height, width, channels]; that of a single channel may be left out."""
        shape = self._images.shape
        values = _only(inputs, f"[-1, {', '.join(map(str, shape))}]").values
        if values.ndim == 3 and shape[2] == 1:
            values = values[..., np.newaxis]
        if values.shape[1:] != shape or values.dtype != np.float64:
            found = "BYTES" if values.dtype != np.float64 else f"the shape {list(values.shape)}"
            raise BadTensorError(f"input {IMAGE}: {found}, expected numbers [-1, {', '.join(map(str, shape))}]")
        if not np.isfinite(values).all():
            raise BadTensorError(f"input {IMAGE} holds infinity or a missing value: every pixel needs a number")
        return self._images.prepared(values)


class Pictures:
    """Images as files of PNG or JPEG."""

    files = frozenset({IMAGE})
    about = {IMAGE: "PNG or JPEG files: as they are in binary tensors, in base64 in JSON"}  # noqa: RUF012
    work, byte_work = PICTURE_WORK, 0

    def __init__(self, images: ImageColumn) -> None:
        try:
            # Only here: the image of the NumPy engine holds no Pillow.
            from eagleray_runtime.data import pictures
        except ModuleNotFoundError as error:
            raise ModelInvalid(
                f"this model takes pictures, which {error.name} reads, and this image does not hold it: "
                "set runtime.image to one with torch and Pillow"
            ) from error
        self._images, self._pictures = images, pictures

    def prepared(self, inputs: Tensors) -> AnyArray:
        """Float32 [rows, height, width, channels] of pictures of any size."""
        values = _only(inputs, "BYTES [-1]").values
        if values.dtype != np.object_ or values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
            raise BadTensorError(f"input {IMAGE}: the shape is {list(values.shape)}, expected BYTES [-1], a file each")
        rows = values.reshape(-1)
        pixels = np.empty((len(rows), *self._images.shape), dtype=np.uint8)
        for row, content in enumerate(rows):
            if content is None:
                raise BadTensorError(f"input {IMAGE}: element {row} is empty, expected a PNG or JPEG file")
            try:
                picture = self._pictures.decoded(content, self._images.height)
            except self._pictures.BadPictureError as error:
                raise BadTensorError(f"input {IMAGE}: element {row} {error}") from error
            pixels[row] = self._pictures.in_channels(picture, self._images.shape[2])
        return self._images.prepared(pixels)


class Documents:
    """Texts, an element each."""

    files: frozenset[str] = frozenset()
    work, byte_work = 0, TEXT_BYTE_WORK

    def __init__(self, column: TextColumn, tokenizer: bytes | None) -> None:
        self._tokenizer = tokenizer_of(tokenizer, column.max_tokens)
        self.about = {TEXT: f"texts in UTF-8, each cut to {column.max_tokens} tokens"}

    def prepared(self, inputs: Tensors) -> AnyArray:
        """Tokens int32 [rows, tokens of the longest text]."""
        texts = documents(inputs)
        for row, text in enumerate(texts):
            if text is None:
                raise BadTensorError(f"input {TEXT}: element {row} is empty, expected a text")
        rows, _ = self._tokenizer.encode([text or "" for text in texts])
        return padded(rows)


def tokenizer_of(content: bytes | None, most: int | None = None) -> "Tokenizer":
    """The tokenizer of a bundle, as `Tokenizer` takes it.

    Raises:
        ModelInvalid: there is none, or this installation cannot read it.
    """
    if content is None:
        raise ModelInvalid("the bundle holds no tokenizer for the text that this model takes: train again")
    try:
        # Only here: the image of the NumPy engine holds no tokenizers.
        from eagleray_runtime.data import tokenization
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"this model takes text, which {error.name} reads, and this image does not hold it: "
            "set runtime.image to one with torch and tokenizers"
        ) from error
    return tokenization.Tokenizer(content, most)


def documents(inputs: Tensors) -> list[str | None]:
    """The texts of a request, None for an empty one.

    Raises:
        BadTensorError: the inputs are not those of a model that takes text.
    """
    values = _only(inputs, "BYTES [-1]", TEXT).values
    if values.dtype != np.object_ or values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise BadTensorError(f"input {TEXT}: the shape is {list(values.shape)}, expected BYTES [-1], a text each")
    return list(values.reshape(-1))


def _only(inputs: Tensors, expected: str, name: str = IMAGE) -> Tensor:
    """The one input of a model that takes images or text."""
    for tensor in inputs:
        if tensor.name != name:
            raise BadTensorError(f"input {tensor.name} is not one of the model: it takes {name} {expected}")
    if len(inputs) != 1:
        raise BadTensorError(f"input {name} is given twice")
    return inputs[0]
