"""Blocks that both kinds share."""

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field

from eagleray_runtime.contract.blocks import Block

Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
"""A Kubernetes quantity such as 500Mi, 2Gi or 1."""


class Runtime(Block):
    """The pods' software."""

    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of the Ray pods. Unset means the platform's image for the engine.",
    )


class Metadata(Block):
    """The part of an object's metadata that decisions need."""

    model_config = Block.model_config | {"extra": "ignore"}

    name: str
    namespace: str
    uid: str
    generation: int = 1
    creation_timestamp: datetime | None = None
    deletion_timestamp: str | None = None
