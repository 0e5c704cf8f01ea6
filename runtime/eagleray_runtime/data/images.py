"""Images as numbers: what is fitted to those of the training part, and how they are prepared."""

from typing import Any, Literal

import numpy as np

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.contract.blocks import Block, Scaling
from eagleray_runtime.data.scaling import Affine, fitted
from eagleray_runtime.data.table import Column, Kind

EXAMPLE_PIXELS = 32
"""Width and height of the picture in a bundle's example request, which is made small for it."""


class ImageColumn(Block):
    """Images of one size: `prepared = (value - offset) / scale`, for each channel its own.

    `form` is how they come: Numbers [height, width, channels], or Files, which are pictures to be resized.
    """

    kind: Literal["Image"] = "Image"
    name: str
    form: Literal["Numbers", "Files"]
    height: int
    width: int
    channels: list[Affine]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.height, self.width, len(self.channels)

    def prepared(self, values: AnyArray) -> AnyArray:
        """Prepare images, numbers of any type [rows, height, width, channels]: float32, for they are many and torch's alone."""
        prepared = values.astype(np.float32)
        prepared -= np.array([channel.offset for channel in self.channels], dtype=np.float32)
        prepared /= np.array([channel.scale for channel in self.channels], dtype=np.float32)
        return prepared


def fit(name: str, column: Column, scaling: Scaling) -> ImageColumn:
    """The preparation of images, fitted to those of the training part [rows, height, width, channels]."""
    _, height, width, channels = column.values.shape
    return ImageColumn(
        name=name,
        form="Files" if column.kind is Kind.PICTURE else "Numbers",
        height=height,
        width=width,
        channels=[fitted(column.values[..., channel], scaling) for channel in range(channels)],
    )


def example(column: Column) -> Any:
    """The first image as a request holds it in JSON: lists of numbers, or a small picture in base64."""
    if column.kind is Kind.PICTURE:
        # Only here: the image of the NumPy engine holds no Pillow, and no pictures get there.
        from eagleray_runtime.data import pictures

        return pictures.encoded(column.values[0], EXAMPLE_PIXELS)
    return column.values[0].tolist()
