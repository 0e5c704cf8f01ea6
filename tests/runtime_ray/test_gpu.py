"""The torch engine through Ray Train on a GPU that is really there; skipped by name where there is none."""

import json
import os
from pathlib import Path

import pytest

from tests.runtime_ray.test_end_to_end import train, training_config
from tests.support.gpus import on_a_gpu

pytestmark = [pytest.mark.ray, pytest.mark.torch]

MODELS = {
    "LogisticRegression": {},
    "MultilayerPerceptron": {"multilayerPerceptron": {"hiddenLayers": [32, 32]}},
}


@on_a_gpu
@pytest.mark.parametrize("family", MODELS)
def test_a_gpu_trains_the_model_that_the_processor_trains(family: str, tmp_path: Path) -> None:
    bundles = {}
    for device, gpus in (("cpu", 0), ("cuda", 1)):
        folder = tmp_path / device
        folder.mkdir()
        changes = {
            "engine": "Torch",
            "model": {"family": family, **MODELS[family]},
            "workers": {"min": 1, "max": 1, "cpus": 1, "gpus": gpus},
        }
        environment = os.environ | {"EAGLERAY_ALLOW_FILE_URIS": "1", "RAY_TRAIN_V2_ENABLED": "1"}
        train(training_config(folder, **changes), folder, environment)
        bundles[device] = json.loads((folder / "model" / "bundle.json").read_text())
    assert "training.device" not in [choice["field"] for choice in bundles["cuda"]["chosen"]], "it went on the processor"
    for expected, found in zip(bundles["cpu"]["history"], bundles["cuda"]["history"], strict=True):
        assert found["training"] == pytest.approx(expected["training"], rel=1e-3, abs=1e-5)
    for expected, found in zip(bundles["cpu"]["metrics"], bundles["cuda"]["metrics"], strict=True):
        assert found["value"] == pytest.approx(expected["value"], abs=0.05)
