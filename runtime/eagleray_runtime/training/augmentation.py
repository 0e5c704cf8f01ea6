"""Other versions of the training part's images.

They are drawn by seed and epoch, so that a resumed run and any number of workers see the same ones.
"""

from typing import cast

import numpy as np
import torch
from torch.nn import functional

from eagleray_runtime.arrays import Integers
from eagleray_runtime.contract.blocks import Augmentation
from eagleray_runtime.training.order import augmentation_stream

LARGEST_SHIFT = 0.1
"""Share of an image's height or width by which it is moved at most."""

LARGEST_TURN = np.pi / 12
LARGEST_ZOOM = 1.25
LARGEST_CONTRAST = 1.5
LARGEST_BRIGHTNESS = 0.3
"""Of an image's own deviation from its mean."""

ERASED = (0.02, 0.2)
"""Least and largest share of an image that a rectangle covers."""


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


class Strong(Light):
    """What Light does, then turns and zooms all images, changes contrast and brightness, and covers a rectangle of half of them.

    Covering a rectangle, here by the image's mean, is Random Erasing (Zhong et al. 2020).
    """

    def __init__(self, seed: int, epoch: int, rows: int, height: int, width: int) -> None:
        """As of Light."""
        super().__init__(seed, epoch, rows, height, width)
        [random] = augmentation_stream(seed, epoch).spawn(1)
        turn = random.uniform(-LARGEST_TURN, LARGEST_TURN, rows)
        zoom = LARGEST_ZOOM ** random.uniform(-1, 1, rows)
        sine, cosine, none = np.sin(turn) / zoom, np.cos(turn) / zoom, np.zeros(rows)
        # Coordinates run from -1 to 1 in both directions, whatever the sizes.
        matrices = [[cosine, -sine * height / width, none], [sine * width / height, cosine, none]]
        self._matrices = torch.from_numpy(np.moveaxis(np.array(matrices, dtype=np.float32), -1, 0))
        contrast = LARGEST_CONTRAST ** random.uniform(-1, 1, rows)
        brightness = random.uniform(-LARGEST_BRIGHTNESS, LARGEST_BRIGHTNESS, rows)
        self._light = torch.from_numpy(np.stack([contrast, brightness]).astype(np.float32))
        self._edges = torch.from_numpy(rectangles(random, rows, height, width))

    def __call__(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """As of Light."""
        found = super().__call__(images, rows).movedim(-1, 1)
        drawn = (self._matrices, *self._light, self._edges)
        matrices, contrast, brightness, edges = (values[rows.cpu()].to(found.device) for values in drawn)
        grid = functional.affine_grid(matrices.to(found.dtype), list(found.shape), align_corners=False)
        found = functional.grid_sample(found, grid, padding_mode="border", align_corners=False)
        mean, deviation = (values[:, None, None, None] for values in (found.mean((1, 2, 3)), found.std((1, 2, 3))))
        changed = mean + (found - mean) * contrast[:, None, None, None] + brightness[:, None, None, None] * deviation
        return torch.where(within(edges, *found.shape[2:])[:, None], mean, changed).to(images.dtype).movedim(1, -1)


def rectangles(random: np.random.Generator, rows: int, height: int, width: int) -> Integers:
    """Top, bottom, left and right edge of a rectangle of each image, int64 [rows, 4]; of half of them it is empty."""
    share = random.uniform(*ERASED, rows) * (random.random(rows) < 0.5)
    aspect = 2 ** random.uniform(-1, 1, rows)
    edges = []
    for size, side in ((height, np.sqrt(share * aspect)), (width, np.sqrt(share / aspect))):
        length = np.minimum(np.round(side * size), size)
        begin = np.floor(random.random(rows) * (size - length + 1))
        edges += [begin, begin + length]
    return np.stack(edges, axis=1).astype(np.int64)


def within(edges: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which pixels are in the rectangles of these edges [rows, 4], bool [rows, height, width]."""
    top, bottom, left, right = edges[:, :, None].unbind(1)
    down, across = (torch.arange(size, device=edges.device) for size in (height, width))
    return ((down >= top) & (down < bottom))[:, :, None] & ((across >= left) & (across < right))[:, None, :]


def _places(size: int, random: np.random.Generator, rows: int) -> Integers:
    """Where each pixel of a line is taken from, int64 [rows, size], when the line is moved."""
    most = int(size * LARGEST_SHIFT)
    shift = random.integers(-most, most + 1, rows)
    return cast(Integers, np.clip(np.arange(size) - shift[:, np.newaxis], 0, size - 1))


KINDS: dict[Augmentation, type[Light]] = {Augmentation.LIGHT: Light, Augmentation.STRONG: Strong}
"""What makes the versions of an epoch."""
