"""Blocks that both kinds share."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from eagleray_runtime.contract.blocks import Block, KeyReference, Reference, Rule

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


class EnvVar(Block):
    """A variable of the pods' environment."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.value) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) == 1",
            "a variable has one of value, secretKeyRef and configMapKeyRef",
        ),
        Rule(
            "!self.name.startsWith('EAGLERAY_') && !self.name.startsWith('RAY_AUTH_')",
            "variables EAGLERAY_* and RAY_AUTH_* are the platform's: drop it",
        ),
    )

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Name of the variable.")
    value: str | None = Field(None, max_length=4096, description="Its value.")
    secret_key_ref: KeyReference | None = Field(None, description="Key of a Secret that holds its value.")
    config_map_key_ref: KeyReference | None = Field(None, description="Key of a ConfigMap that holds its value.")


class Runtime(Block):
    """The pods' software."""

    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of the Ray pods. Unset means the platform's image for the engine.",
    )
    image_pull_secrets: list[Reference] | None = Field(
        None, min_length=1, max_length=8, description="Secrets with the credentials of the image's registry."
    )
    env: list[EnvVar] | None = Field(
        None,
        min_length=1,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Variables of the pods' environment, in the stead of those of the same name that the platform sets.",
    )


class TolerationOperator(StrEnum):
    """When a toleration meets a taint of its key."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """What a taint does to pods."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Block):
    """A taint of nodes that the pods may run on nevertheless."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.operator != 'Exists' || !has(self.value)", "operator Exists looks at no value: drop value"),
        Rule(
            "!self.key.startsWith('node-role.kubernetes.io/')",
            "nodes of the control plane are not for training and serving: drop this toleration",
        ),
    )

    key: str = Field(min_length=1, max_length=316, description="Key of the taint.")
    operator: TolerationOperator = Field(
        TolerationOperator.EQUAL, description="Equal (the taint has this value) or Exists (whatever its value). Default Equal."
    )
    value: str | None = Field(None, max_length=63, description="Value of the taint.")
    effect: TaintEffect | None = Field(None, description="NoSchedule, PreferNoSchedule or NoExecute. Unset means all.")


class Scheduling(Block):
    """Where the pods run, in the words of a pod."""

    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        None, min_length=1, max_length=16, description="Labels of the nodes that the pods may run on."
    )
    tolerations: list[Toleration] | None = Field(
        None, min_length=1, max_length=16, description="Taints of nodes that the pods may run on nevertheless."
    )
    priority_class_name: str | None = Field(
        None, min_length=1, max_length=253, description="Class of the pods' priority over others."
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
