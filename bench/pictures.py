"""An image folder beside scikit-learn's network: digits as PNG files in a folder for each class."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from bench.jobs import job, rows
from eagleray_runtime.contract.config import Location
from tests.support.torch_runs import HereRun

MODEL = {"family": "ConvolutionalNetwork", "convolutionalNetwork": {"channels": [16, 32], "hiddenLayers": [64]}}
TRAINING = {"epochs": 30, "batchSize": 64}


def write(folder: Path) -> None:
    """Each digit as a picture of 8x8 grey pixels, in the folder of what it shows."""
    found = load_digits()
    for number, (image, digit) in enumerate(zip(found.images, found.target, strict=True)):
        path = folder / "digits" / f"digit-{digit}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)


def telling(folder: Path, seed: int) -> tuple[float, list[float]]:
    """Accuracy of a convolutional network on the test part, and of scikit-learn's network on the same prepared pixels."""
    uri = f"file://{folder}/digits"
    split = {"validationPercent": 0, "testPercent": 25, "seed": seed}
    data = {"uri": uri, "format": "ImageFolder", "image": {"sizePixels": 8}, "split": split}
    where = Location(uri=uri)
    run = HereRun(job(folder, data=data, model=MODEL, training=TRAINING | {"seed": seed}, engine="Torch", dataLocation=where))
    rival = MLPClassifier((64,), max_iter=200, random_state=seed).fit(*rows(run.dataset.training))
    return run.to_the_end().metrics()["Accuracy", "Test"], [rival.score(*rows(run.dataset.test))]
