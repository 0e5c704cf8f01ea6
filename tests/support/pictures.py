"""Pictures that are easily told apart by a convolution and not by their mean."""

import io

import numpy as np


def striped(direction: str, seed: int) -> bytes:
    """A PNG of 24 x 24 pixels with noisy stripes `across` or `down` it, of any colour and at any place."""
    from PIL import Image

    random = np.random.default_rng([seed, direction == "across"])
    waves = np.sin(np.arange(24) * 1.5 + random.uniform(0, 6.28))
    pixels = np.tile(waves, (24, 1))
    if direction == "across":
        pixels = pixels.T
    coloured = 128 + 70 * pixels[..., np.newaxis] * random.uniform(0.5, 1, 3) + random.normal(0, 15, (24, 24, 3))
    written = io.BytesIO()
    Image.fromarray(coloured.clip(0, 255).astype(np.uint8)).save(written, "PNG")
    return written.getvalue()
