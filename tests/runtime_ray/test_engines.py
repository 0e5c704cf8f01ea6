"""Both engines on everything that a step can be made of: the same losses, epoch by epoch, whatever the number of workers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime_ray.private_ray import PrivateRay
from tests.runtime_ray.test_end_to_end import train, training_config

pytestmark = [pytest.mark.ray, pytest.mark.torch]
pytest.importorskip("torch")

EVERYTHING = {
    "epochs": 40,
    "batchSize": 20,
    "loss": {"type": "CrossEntropy", "labelSmoothing": 0.1, "classWeights": "Balanced"},
    "optimizer": {"type": "SGD", "learningRate": 0.1, "momentum": 0.9, "nesterov": True, "weightDecay": 0.001},
    "schedule": {"type": "Cosine", "warmupPercent": 10},
    "gradients": {"clipNorm": 0.5, "clipValue": 0.4, "accumulationSteps": 3},
    "earlyStopping": {"metric": "LogLoss", "patienceEpochs": 30},
}


def trained(ray: PrivateRay, folder: Path, engine: str, workers: int) -> dict[str, Any]:
    """The manifest of the bundle."""
    folder.mkdir()
    changes = {
        "engine": engine,
        "model": {"family": "MultilayerPerceptron", "multilayerPerceptron": {"hiddenLayers": [16], "activation": "GELU"}},
        "training": EVERYTHING,
        "workers": {"min": workers, "max": workers, "cpus": 0.5, "gpus": 0},
    }
    train(training_config(folder, **changes), folder, ray.environment)
    manifest: dict[str, Any] = json.loads((folder / "model" / "bundle.json").read_text())
    return manifest


def test_torch_on_two_workers_trains_what_numpy_trains(ray: PrivateRay, tmp_path: Path) -> None:
    expected, found = trained(ray, tmp_path / "numpy", "NumPy", 1), trained(ray, tmp_path / "torch", "Torch", 2)
    assert len(expected["history"]) > 30
    for ours, theirs in zip(expected["history"], found["history"], strict=True):
        assert theirs["training"] == pytest.approx(ours["training"], rel=1e-3)
        assert theirs["validation"] == pytest.approx(ours["validation"], rel=1e-3)
    best = [[choice for choice in one["chosen"] if choice["field"] == "training.epochs"] for one in (expected, found)]
    assert best[0] == best[1] != [], "the best epoch is the same one"
