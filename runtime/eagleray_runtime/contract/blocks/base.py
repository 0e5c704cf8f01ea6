"""The base of all blocks, the rules over them, and what several of them refer to."""

from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

INT32_MAX = 2**31 - 1


class Rule(NamedTuple):
    """A CEL rule of a block and the message that the user reads when it does not hold."""

    expression: str
    message: str


class Block(BaseModel):
    """Base of every part of a spec, status, config or report: camelCase outside, unknown fields refused, immutable.

    Numbers are finite: JSON has no others, and an apiserver would refuse a status with one for ever.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
        allow_inf_nan=False,
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
