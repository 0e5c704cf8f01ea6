"""Other versions of the training part's images.

They are drawn by seed and epoch, so that a resumed run and any number of workers see the same ones.
"""

from typing import cast

import numpy as np
import torch

from eagleray_runtime.arrays import Integers
from eagleray_runtime.training.order import augmentation_stream

LARGEST_SHIFT = 0.1
"""Share of an image's height or width by which it is moved at most."""


class Light:
    """Mirrors half of the images left to right and moves all of them; what comes in at a border repeats it."""

    def __init__(self, seed: int, epoch: int, rows: int, height: int, width: int) -> None:
        """Draw what becomes of each of `rows` images in an epoch (from 1)."""
        random = augmentation_stream(seed, epoch)
        mirrored = random.random(rows) < 0.5
        self._down = torch.from_numpy(_places(height, random, rows))
        across = _places(width, random, rows)
        self._across = torch.from_numpy(np.where(mirrored[:, np.newaxis], across[:, ::-1], across))

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """This epoch's versions of the images with these row numbers [n], of all images [rows, height, width, channels]."""
        down, across = (places[rows.cpu()].to(images.device) for places in (self._down, self._across))
        return images[rows[:, None, None], down[:, :, None], across[:, None, :]]


def _places(size: int, random: np.random.Generator, rows: int) -> Integers:
    """Where each pixel of a line is taken from, int64 [rows, size], when the line is moved."""
    most = int(size * LARGEST_SHIFT)
    shift = random.integers(-most, most + 1, rows)
    return cast(Integers, np.clip(np.arange(size) - shift[:, np.newaxis], 0, size - 1))
