"""Networks that code of the user's own makes."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract import blocks
from eagleray_runtime.contract.blocks import LossType
from eagleray_runtime.errors import ModelInvalid
from eagleray_runtime.models.architecture.layers import Made, Shapes
from eagleray_runtime.models.code import digest
from eagleray_runtime.models.heads import Head, head_of


class Custom(Made):
    """A network of the user's own: what the function `entrypoint` (module:function) makes of inputs, outputs and `arguments`.

    It takes rows [rows, inputs], pictures and windows [rows, *inputs], or of text tokens [rows, inputs[0]] of so many kinds as
    inputs[1]. `sources` are the texts of the code's files by name; without any it is in the image. `weights` and `statistics` are
    the shapes of parameters and buffers by the names that its module gives, `width` are the numbers of its widest layer's outputs
    for one row.
    """

    kind: Literal["Custom"] = "Custom"
    entrypoint: str
    arguments: dict[str, str]
    sources: dict[str, str] = Field(default_factory=dict)
    inputs: PositiveInt | tuple[PositiveInt, ...]
    outputs: int = Field(ge=1)
    statistics: dict[str, list[int]] = Field(default_factory=dict)
    width: int = 1
    head: Head

    @property
    def buffers(self) -> Shapes:
        """Shape of what is part of the module's state, but not trained."""
        return {name: tuple(shape) for name, shape in self.statistics.items()}

    @property
    def work(self) -> int:
        """About how many multiplications a row costs, if each weight is used once."""
        return self.parameters

    @property
    def widest(self) -> int:
        """Numbers of the largest layer's outputs, for one row."""
        return self.width

    @property
    def words(self) -> str:
        """Its code for a person."""
        files = f"{', '.join(sorted(self.sources))} ({digest(self.sources)})" if self.sources else "the image"
        inputs = self.inputs if isinstance(self.inputs, int) else "x".join(map(str, self.inputs))
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.entrypoint} of {files}{f' with {given}' if given else ''}; {inputs} inputs, {self.outputs} outputs"


def custom(
    model: blocks.Custom, sources: Mapping[str, str], x: AnyArray, inputs: tuple[int, ...], classes: int, loss: LossType
) -> Custom:
    """The architecture of a network of the user's own, found out on a few prepared rows `x`; else as `build`.

    Raises:
        ModelInvalid: this installation has no torch.
        UserCodeFailed: the code ends with an error, or makes something else than it has to.
    """
    try:
        # Only here: the image of the NumPy engine holds no torch.
        from eagleray_runtime.models import torch_custom
    except ModuleNotFoundError as error:
        raise ModelInvalid(
            f"family Custom needs {error.name}, which this image does not hold: set runtime.image to one with torch"
        ) from error
    head, outputs = head_of(classes, loss)
    asked = Custom(
        entrypoint=model.entrypoint,
        arguments=model.parameters,
        sources=dict(sources),
        inputs=inputs[0] if len(inputs) == 1 else inputs,
        outputs=outputs,
        head=head,
    )
    return torch_custom.described(asked, x)
