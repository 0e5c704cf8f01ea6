"""Families that only torch has, on two of Ray Train's workers, from a configuration to a bundle and its answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.serving.model import ServedModel, load_model
from eagleray_runtime.serving.tensors import Tensor, decode
from tests.runtime_ray.private_ray import PrivateRay
from tests.runtime_ray.test_end_to_end import RESOURCE, train, training_config

pytestmark = [pytest.mark.ray, pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")


def trained(ray: PrivateRay, folder: Path, **changes: Any) -> dict[str, Any]:
    """The manifest of the bundle that two workers leave."""
    folder.mkdir()
    told = {"engine": "Torch", "workers": {"min": 2, "max": 2, "cpus": 0.5, "gpus": 0}} | changes
    train(training_config(folder, **told), folder, ray.environment)
    manifest: dict[str, Any] = json.loads((folder / "model" / "bundle.json").read_text())
    return manifest


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ServedModel:
    """The model of the bundle; its own example is answered."""
    monkeypatch.setenv("EAGLERAY_ALLOW_FILE_URIS", "1")
    location = {"uri": f"file://{folder}/model"}
    resource = RESOURCE | {"kind": "ModelDeployment"}
    told = {"resource": resource, "revision": "r1", "name": "m", "model": location, "engine": "Torch"}
    model = load_model(ServingConfig.model_validate(told))
    model.infer([decode(tensor, None, model.files)[0] for tensor in model.example["inputs"]])
    return model


def test_two_workers_learn_further_what_texts_say_and_are_asked_in_words(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    from tests.support.pretrained import save
    from tests.support.texts import MOODS, reviews

    (tmp_path / "reviews.csv").write_text("\n".join(["review,mood", *reviews(200)]))
    save(tmp_path / "bert", "Bert")
    place = {"uri": f"file://{tmp_path}/bert"}
    lora = {"method": "LoRA", "lora": {"rank": 8}}
    changes = {
        "data": {
            "configMapRef": {"name": "reviews", "key": "reviews.csv"},
            "target": "mood",
            "text": {"column": "review", "maxTokens": 32},
        },
        "dataFile": str(tmp_path / "reviews.csv"),
        "model": {"family": "Pretrained", "pretrained": place | lora},
        "baseLocation": place,
        "training": {"epochs": 15, "optimizer": {"learningRate": 0.003}},
    }
    manifest = trained(ray, tmp_path / "run", **changes)
    accuracy = {(metric["name"], metric["part"]): metric["value"] for metric in manifest["metrics"]}
    assert accuracy["Accuracy", "Test"] > 0.9
    asked = np.empty(2, dtype=np.object_)
    asked[:] = ["the room was good and in the end the food was bad", "the food was bad and in the end the staff was good"]
    answers = served(tmp_path / "run", monkeypatch).infer([Tensor("text", asked)])
    assert answers["label"].tolist() == list(MOODS)
