"""The families that only torch has, from a configuration to a bundle and its answers, on one worker and on two."""

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


def trained(ray: PrivateRay, folder: Path, workers: int, **changes: Any) -> dict[str, Any]:
    """The manifest of the bundle."""
    folder.mkdir()
    told = {"engine": "Torch", "workers": {"min": workers, "max": workers, "cpus": 0.5, "gpus": 0}} | changes
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


def assert_one_worker_learns_alike(folder: Path, manifest: dict[str, Any]) -> None:
    """Hold that one worker, without Ray around it, comes to the losses of the two that have left this manifest."""
    config = TrainingConfig.model_validate_json((folder / "training.json").read_text())
    workers = config.workers.model_copy(update={"min": 1, "max": 1})
    alone = HereRun(config.model_copy(update={"workers": workers})).to_the_end()
    history = manifest["history"]
    assert len(history) > 2
    assert [point[part] for part in ("training", "validation") for point in history] == pytest.approx(alone.losses, rel=1e-2)


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
    two = trained(ray, tmp_path / "run", 2, **changes)
    answered = served(tmp_path / "run", monkeypatch)
    assert_one_worker_learns_alike(tmp_path / "run", two)
    assert two["signature"]["inputs"] == [{"name": "image", "datatype": "FP64", "shape": [-1, 8, 8, 1]}]
    accuracy = {(metric["name"], metric["part"]): metric["value"] for metric in two["metrics"]}
    assert accuracy["Accuracy", "Test"] > 0.9
    answers = answered.infer([Tensor("image", digits.images)])
    assert np.mean(answers["label"].astype(int) == digits.target) > 0.9
    assert answers["probabilities"].sum(axis=1) == pytest.approx(np.ones(len(digits.images)))


def test_pictures_in_folders_are_learned_and_asked_for_as_files(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.pictures import striped

    for number in range(30):
        for name in ("across", "down"):
            path = tmp_path / "stripes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(striped(name, number))
    changes = {
        "data": {"uri": f"file://{tmp_path}/stripes", "format": "ImageFolder", "image": {"sizePixels": 16}},
        "dataLocation": {"uri": f"file://{tmp_path}/stripes"},
        "model": {"family": "ConvolutionalNetwork", "convolutionalNetwork": {"channels": [8], "hiddenLayers": [8]}},
        "training": {"epochs": 15},
    }
    manifest = trained(ray, tmp_path / "run", 1, **changes, dataFile=None)
    assert manifest["signature"]["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert manifest["classes"] == ["across", "down"]
    model = served(tmp_path / "run", monkeypatch)
    assert "base64 in JSON" in model.metadata["parameters"]["image"]
    asked = np.empty(2, dtype=np.object_)
    asked[:] = [striped("down", 100), striped("across", 101)]
    assert model.infer([Tensor("image", asked)])["label"].tolist() == ["down", "across"]


def test_a_recurrent_network_forecasts_alike_on_one_worker_and_on_two_and_is_asked(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = np.arange(400)
    y = np.sin(2 * np.pi * t / 12) + 0.7 * np.sin(2 * np.pi * t / 7.3) + np.random.default_rng(0).normal(0, 0.1, 400)
    (tmp_path / "waves.csv").write_text("\n".join(["t,y", *(f"{time},{value}" for time, value in zip(t, y, strict=True))]))
    changes = {
        "data": {
            "configMapRef": {"name": "waves", "key": "waves.csv"},
            "target": "y",
            "sequence": {"timeColumn": "t", "windowSteps": 12},
        },
        "dataFile": str(tmp_path / "waves.csv"),
        "model": {"family": "RecurrentNetwork", "recurrentNetwork": {"hiddenSize": 16}},
        "training": {"epochs": 20, "optimizer": {"learningRate": 0.01}},
    }
    two = trained(ray, tmp_path / "run", 2, **changes)
    answered = served(tmp_path / "run", monkeypatch)
    assert_one_worker_learns_alike(tmp_path / "run", two)
    assert two["signature"]["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 12, 1]}]
    assert two["sequence"] == {"timeColumn": "t", "groupColumn": None, "windowSteps": 12, "horizonSteps": 1}
    windows = np.stack([y[start : start + 12] for start in range(360, 388)])[..., np.newaxis]
    [answers] = answered.infer([Tensor("features", windows)]).values()
    wrong = np.sqrt(np.mean((answers - y[372:400]) ** 2))
    assert wrong < 0.5 * np.sqrt(np.mean((y[371:399] - y[372:400]) ** 2)), "the last value would do as well"


@pytest.mark.parametrize("family", ["Transformer", "Pretrained"])
def test_two_workers_learn_what_texts_say_and_are_asked_in_words(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    pytest.importorskip("peft")
    from tests.support.pretrained import save
    from tests.support.texts import MOODS, reviews

    (tmp_path / "reviews.csv").write_text("\n".join(["review,mood", *reviews(200)]))
    changes: dict[str, Any] = {
        "data": {
            "configMapRef": {"name": "reviews", "key": "reviews.csv"},
            "target": "mood",
            "text": {"column": "review", "maxTokens": 32},
        },
        "dataFile": str(tmp_path / "reviews.csv"),
        "training": {"epochs": 15, "optimizer": {"learningRate": 0.003}},
    }
    if family == "Transformer":
        changes["model"] = {"family": family, "transformer": {"layers": 2, "heads": 2, "modelSize": 32}}
    else:
        save(tmp_path / "bert", "Bert")
        place = {"uri": f"file://{tmp_path}/bert"}
        lora = {"method": "LoRA", "lora": {"rank": 8}}
        changes |= {"model": {"family": family, "pretrained": place | lora}, "baseLocation": place}
    manifest = trained(ray, tmp_path / "run", 2, **changes)
    accuracy = {(metric["name"], metric["part"]): metric["value"] for metric in manifest["metrics"]}
    assert accuracy["Accuracy", "Test"] > 0.9
    asked = np.empty(2, dtype=np.object_)
    asked[:] = ["the room was good and in the end the food was bad", "the food was bad and in the end the staff was good"]
    answers = served(tmp_path / "run", monkeypatch).infer([Tensor("text", asked)])
    assert answers["label"].tolist() == list(MOODS)
