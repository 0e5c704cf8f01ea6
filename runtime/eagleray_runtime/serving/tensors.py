"""Tensors of the Open Inference Protocol v2, in JSON or in its binary extension.

A tensor is `{"name", "shape", "datatype", "data"}`; with the binary extension its bytes stand after the JSON, row-major and
little-endian, and `parameters.binary_data_size` says how many. BYTES elements then carry their length before them (uint32).
"""

import base64
import struct
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eagleray_runtime.arrays import AnyArray, Texts

NUMBERS = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
NUMERIC_KINDS = frozenset("buif")


class BadTensorError(ValueError):
    """A tensor is not what the protocol or the model asks for; the message names it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A decoded input, in the shape that it came with: float64 (NaN for a JSON null) or object.

    Objects are str, or bytes where the input holds files; None stands for null and for what is empty.
    """

    name: str
    values: AnyArray


def decode(tensor: Any, binary: memoryview | None, files: Collection[str] = ()) -> tuple[Tensor, int]:
    """Decode one input; `binary` is what is left of the bytes after the JSON. Also how many of them were taken.

    The elements of the inputs named in `files` are files: as they are in binary, in base64 in JSON.

    Raises:
        BadTensorError: it is malformed.
    """
    if not isinstance(tensor, dict) or not isinstance(name := tensor.get("name"), str):
        raise BadTensorError("an input must be an object with a name")
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    text = datatype == "BYTES"
    if not isinstance(datatype, str) or not (text or datatype in NUMBERS):
        raise BadTensorError(f"input {name}: datatype {datatype} is not supported: use FP64, BYTES or {', '.join(NUMBERS)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadTensorError(f"input {name}: shape must be a list of whole numbers from 0")
    parameters = parameters_of(tensor, "input", name)
    taken = 0
    if "binary_data_size" in parameters:
        taken = parameters["binary_data_size"]
        if binary is None or type(taken) is not int or not 0 <= taken <= len(binary):
            raise BadTensorError(f"input {name}: binary_data_size {taken} does not fit the bytes of the request")
        values = (
            _elements_of(name, binary[:taken], _file if name in files else _text)
            if text
            else _numbers_of(name, binary[:taken], NUMBERS[datatype])
        )
    elif "data" in tensor:
        values = _texts(name, tensor["data"]) if text else _numbers(name, tensor["data"])
        if values.ndim > 1 and values.size and _long(values.shape) != _long(shape):
            raise BadTensorError(
                f"input {name}: data is nested as {list(values.shape)}, and shape says {shape}: correct one, or send it flat"
            )
        if text and name in files:
            values = _files(name, values.ravel())
    else:
        raise BadTensorError(f"input {name}: data is missing")
    try:
        return Tensor(name, values.reshape(shape)), taken
    except ValueError as error:
        raise BadTensorError(f"input {name}: {values.size} values do not fill the shape {shape}") from error


def parameters_of(item: dict[str, Any], *whose: str) -> dict[str, Any]:
    """The parameters of a request, an input or an output, which may have none.

    Raises:
        BadTensorError: they are no object.
    """
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadTensorError(f"{' '.join(whose)}: parameters must be an object")
    return parameters


def binary_texts(values: Texts) -> bytes:
    """Strings as the binary extension writes BYTES."""
    parts = []
    for value in values.ravel():
        content = value.encode()
        parts.append(struct.pack("<I", len(content)))
        parts.append(content)
    return b"".join(parts)


def _numbers(name: str, data: Any) -> AnyArray:
    try:
        values = np.array(data)
    except ValueError as error:
        raise BadTensorError(f"input {name}: data must be a flat list or lists of equal length") from error
    if values.dtype.kind not in NUMERIC_KINDS and values.size:
        # null is a missing value; anything else that is not a number would be turned into one by NumPy if it can.
        flat = values.ravel().tolist()
        if values.dtype.kind != "O" or not all(value is None or type(value) in (int, float) for value in flat):
            raise BadTensorError(f"input {name}: data must hold numbers, or null for a missing one")
        return np.array([np.nan if value is None else float(value) for value in flat]).reshape(values.shape)
    return values.astype(np.float64)


def _texts(name: str, data: Any) -> Texts:
    values = np.array(data, dtype=np.object_)
    flat = values.ravel()
    for place, item in enumerate(flat.tolist()):
        if item is not None and not isinstance(item, str):
            raise BadTensorError(
                f"input {name}: data must hold strings, or null for a missing one, flat or in lists of equal length"
            )
        if item == "":
            flat[place] = None
    return flat.reshape(values.shape)


def _long(shape: Iterable[int]) -> list[int]:
    """A shape without its dimensions of 1, which change no order: examples of windows lack the first one."""
    return [size for size in shape if size != 1]


def _numbers_of(name: str, content: memoryview, dtype: np.dtype[Any]) -> AnyArray:
    if len(content) % dtype.itemsize:
        raise BadTensorError(f"input {name}: {len(content)} bytes are not a multiple of the {dtype.itemsize} of one value")
    return np.frombuffer(content, dtype=dtype).astype(np.float64)


def _files(name: str, values: Texts) -> AnyArray:
    """Files [elements], bytes or None, of base64."""
    try:
        found = [None if value is None else base64.b64decode(value, validate=True) for value in values]
    except ValueError as error:
        raise BadTensorError(
            f"input {name}: the elements are files, which stand in JSON in base64, and one does not: {error}"
        ) from error
    return _objects(found)


def _objects(values: list[Any]) -> AnyArray:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array


def _file(name: str, content: memoryview) -> bytes | None:
    return bytes(content) or None


def _text(name: str, content: memoryview) -> str | None:
    try:
        return str(content, "utf-8") or None
    except UnicodeDecodeError as error:
        raise BadTensorError(f"input {name}: a string is not UTF-8") from error


def _elements_of(name: str, content: memoryview, read: Callable[[str, memoryview], Any]) -> AnyArray:
    elements: list[Any] = []
    position = 0
    while position < len(content):
        start = position + 4
        if start > len(content):
            raise BadTensorError(f"input {name}: the length before a string is cut off")
        (length,) = struct.unpack_from("<I", content, position)
        position = start + length
        if position > len(content):
            raise BadTensorError(f"input {name}: a string is longer than the bytes that are left")
        elements.append(read(name, content[start:position]))
    return _objects(elements)
