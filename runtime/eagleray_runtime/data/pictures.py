"""PNG and JPEG files as numbers, by Pillow (the only module that imports it)."""

import base64
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from eagleray_runtime.arrays import AnyArray

FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 64_000_000
"""A file of some kilobytes can say that it holds thousands of megapixels."""

GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
WIDE = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Modes in which Pillow holds grey levels of 16 bits."""


class BadPictureError(ValueError):
    """A file is no picture that can be used; the message says why and begins with a verb."""


def decoded(content: bytes, size: int) -> AnyArray:
    """A picture upright and resized, whatever its proportions: uint8 [size, size, 1] if it is grey, else [size, size, 3].

    Transparency is left out, 16 bits a channel become 8.

    Raises:
        BadPictureError: it is neither PNG nor JPEG, damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise BadPictureError(
                    f"has {picture.width} x {picture.height} pixels, more than the {MOST_PIXELS // 10**6} million that are read"
                )
            if picture.mode in WIDE:
                # Pillow's own conversion would take all levels above 255 for white.
                upright: Image.Image = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
            else:
                upright = ImageOps.exif_transpose(picture).convert("L" if picture.mode in GREY else "RGB")
    except UnidentifiedImageError as error:
        raise BadPictureError("is neither PNG nor JPEG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, BadPictureError):
            raise
        raise BadPictureError(f"cannot be decoded: {error}") from error
    return np.asarray(upright.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)


def in_channels(pixels: AnyArray, channels: int) -> AnyArray:
    """A decoded picture with 1 or 3 channels: a grey one with three equal channels, a coloured one as its brightness."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]


def encoded(pixels: AnyArray, most: int) -> str:
    """Pixels uint8 [height, width, 1 or 3] as a PNG of at most so many pixels a side, in base64."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((most, most))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
