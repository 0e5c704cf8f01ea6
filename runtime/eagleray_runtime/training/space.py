"""What a search varies: fields of the spec, looked up in its own definition, and the values that they may get."""

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from eagleray_runtime.contract.blocks import TORCH_FAMILIES, Block, Data, Model, Preparation, Training
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.contract.rules import broken
from eagleray_runtime.contract.search import Search, SearchParameter, SearchScale
from eagleray_runtime.errors import ModelInvalid

Value = int | float | str
Values = dict[str, Value]
"""What a trial tries, by field."""

AnyBlock = TypeVar("AnyBlock", bound=Block)

PARTS: Mapping[str, type[Block]] = {"data.preparation": Preparation, "model": Model, "training": Training}
ENGINE, FAMILY = "training.engine", "model.family"


@dataclass(frozen=True)
class Dimension:
    """One field: the `values` that it may get, or `None` and a range of numbers, bounds included."""

    field: str
    values: tuple[Value, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    scale: SearchScale = SearchScale.LINEAR
    whole: bool = False

    @property
    def size(self) -> float:
        """Number of different values; infinite for a range of any numbers."""
        if self.values is not None:
            return len(self.values)
        return self.high - self.low + 1 if self.whole else math.inf

    def all(self) -> tuple[Value, ...]:
        """Every value, where their number is finite."""
        return self.values if self.values is not None else tuple(range(int(self.low), int(self.high) + 1))


def dimensions(config: TrainingConfig, search: Search) -> list[Dimension]:
    """The fields of a search, each of whose values its field takes.

    Raises:
        ModelInvalid: there is no such field, it is none to search over, or it refuses a value.
    """
    return [_dimension(config, parameter) for parameter in search.parameters]


def with_values(config: TrainingConfig, values: Values) -> TrainingConfig:
    """The configuration with other values of some fields.

    Raises:
        ModelInvalid: the spec refuses them.
    """
    spec = {
        "data": _dumped(config.data),
        "model": _dumped(config.model),
        "training": _dumped(config.training),
    }
    for field, value in values.items():
        *blocks, leaf = field.split(".")
        node: dict[str, Any] = spec
        for name in blocks:
            node = node.setdefault(name, {})
        node[leaf] = value
    changed = {
        "data": _validated(Data, spec["data"], values),
        "model": _validated(Model, spec["model"], values),
        "training": _validated(Training, spec["training"], values),
    }
    return config.model_copy(update=changed)


def require_rules(config: TrainingConfig, values: Values) -> None:
    """Refuse values that do not go together.

    Raises:
        ModelInvalid: a rule of the spec does not hold.
    """
    for part in (config.data.preparation, config.model, config.training):
        for message in broken(part):
            raise ModelInvalid(f"spec.search tries {told(values)}, which this spec refuses: {message}")


def told(values: Values) -> str:
    """Values in words."""
    return ", ".join(f"{field} {text(value)}" for field, value in values.items())


def text(value: Value) -> str:
    """A value as it is told."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _dimension(config: TrainingConfig, parameter: SearchParameter) -> Dimension:
    field, kind = parameter.field, _kind(parameter.field)
    numeric = kind in (int, float)
    if numeric == (parameter.choices is not None):
        if numeric:
            needs = "a number: give range or numbers"
        else:
            needs = "a text: give choices" if kind is str else f"one of {', '.join(kind)}: give choices"  # type: ignore[arg-type]
        raise ModelInvalid(f"spec.search: {field} is {needs}")
    found = _range(parameter, kind is int) if parameter.range is not None else Dimension(field, _named(parameter, kind is int))
    for value in found.values if found.values is not None else (found.low, found.high):
        if field == FAMILY and value != config.model.family and TORCH_FAMILIES & {value, config.model.family}:
            raise ModelInvalid(
                f"spec.search: families {config.model.family} and {value} learn from other rows: search those that learn from "
                "columns by either engine"
            )
        with_values(config, {field: int(value) if found.whole else value})
    return found


def _named(parameter: SearchParameter, whole: bool) -> tuple[Value, ...]:
    """The values that are named, each once; a whole number is one for a field that takes no other."""
    named: list[Value] = [*(parameter.choices or []), *(parameter.numbers or [])]
    return tuple(dict.fromkeys(int(value) if whole and value == int(value) else value for value in named))


def _range(parameter: SearchParameter, whole: bool) -> Dimension:
    wanted = parameter.range
    if wanted is None:
        raise ValueError(parameter)
    low, high = wanted.min, wanted.max
    if whole:
        low, high = math.ceil(low), math.floor(high)
        if low > high:
            raise ModelInvalid(
                f"spec.search: {parameter.field} takes whole numbers, and none is between {wanted.min:g} and {wanted.max:g}"
            )
    return Dimension(parameter.field, None, low, high, wanted.scale, whole)


def _kind(field: str) -> type:
    """The type of a field: int, float, an enum of choices, or str where users name the field themselves."""
    if field == ENGINE:
        raise ModelInvalid(f"spec.search: {ENGINE} is decided before a search begins: drop it there")
    root = next((root for root in PARTS if field.startswith(f"{root}.")), None)
    if root is None:
        raise ModelInvalid(f"spec.search: {field} is not below {', '.join(PARTS)}")
    block, path = PARTS[root], root
    *blocks, leaf = field.removeprefix(f"{root}.").split(".")
    for name in blocks:
        inner = _field_type(block, path, name, field)
        if get_origin(inner) is dict and field == f"{path}.{name}.{leaf}":
            return str
        if not (isinstance(inner, type) and issubclass(inner, Block)):
            raise ModelInvalid(f"spec.search: there is no field {field}: {path}.{name} has none below it")
        block, path = inner, f"{path}.{name}"
    kind = _field_type(block, path, leaf, field)
    if kind in (int, float) or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        found: type = kind
        return found
    raise ModelInvalid(f"spec.search: {field} is neither a number nor a choice of some: only these can be searched")


def _field_type(block: type[Block], path: str, name: str, field: str) -> Any:
    """The type of a block's field by the name that users write; of an optional one what it holds."""
    by_name = {info.alias or own: info.annotation for own, info in block.model_fields.items()}
    if name not in by_name:
        raise ModelInvalid(f"spec.search: there is no field {field}: {path} has {', '.join(by_name)}")
    kind = by_name[name]
    if get_origin(kind) in (Union, types.UnionType):
        [kind] = [part for part in get_args(kind) if part is not type(None)]
    return kind


def _dumped(block: Block) -> dict[str, Any]:
    return block.model_dump(mode="json", by_alias=True, exclude_none=True)


def _validated(block: type[AnyBlock], spec: dict[str, Any], values: Values) -> AnyBlock:
    try:
        return block.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        where, said = ".".join(map(str, first["loc"])), first["msg"]
        if not any(field.endswith(where) for field in values):
            # A block that the spec does not have lacks more than what is searched in it.
            said = f"{where}: {said}"
        raise ModelInvalid(f"spec.search tries {told(values)}, which this spec refuses: {said}") from error
