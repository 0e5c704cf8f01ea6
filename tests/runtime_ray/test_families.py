"""Families that only torch has, on two of Ray Train's workers, from a configuration to a bundle and its answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagleray_runtime.contract.config import ServingConfig, TrainingConfig
from eagleray_runtime.serving.model import ServedModel, load_model
from eagleray_runtime.serving.tensors import Tensor, decode
from tests.runtime_ray.private_ray import PrivateRay
from tests.runtime_ray.test_end_to_end import RESOURCE, train, training_config
from tests.support.torch_runs import HereRun

pytestmark = [pytest.mark.ray, pytest.mark.torch]
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


def test_a_convolutional_network_learns_digits_alike_on_one_worker_and_on_two_and_is_asked(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(tmp_path / "digits.npz", images=digits.images, digit=digits.target)
    changes = {
        "data": {"configMapRef": {"name": "digits", "key": "digits.npz"}, "target": "digit"},
        "dataFile": str(tmp_path / "digits.npz"),
        "model": {"family": "ConvolutionalNetwork", "convolutionalNetwork": {"channels": [8, 16], "hiddenLayers": [32]}},
        "training": {"epochs": 8, "batchSize": 100, "optimizer": {"type": "Adam", "learningRate": 0.003}},
    }
    two = trained(ray, tmp_path / "run", **changes)
    answers = served(tmp_path / "run", monkeypatch).infer([Tensor("image", digits.images)])
    config = TrainingConfig.model_validate_json((tmp_path / "run" / "training.json").read_text())
    alone = HereRun(config.model_copy(update={"workers": config.workers.model_copy(update={"min": 1, "max": 1})})).to_the_end()
    losses = [point[part] for part in ("training", "validation") for point in two["history"]]
    assert losses == pytest.approx(alone.losses, rel=1e-2)
    assert two["signature"]["inputs"] == [{"name": "image", "datatype": "FP64", "shape": [-1, 8, 8, 1]}]
    accuracy = {(metric["name"], metric["part"]): metric["value"] for metric in two["metrics"]}
    assert accuracy["Accuracy", "Test"] > 0.9
    assert np.mean(answers["label"].astype(int) == digits.target) > 0.9
    assert answers["probabilities"].sum(axis=1) == pytest.approx(np.ones(len(digits.images)))


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
