"""A network of the user's own on Ray Train's workers: trained, served by consent, and quoted where it fails in a worker."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eagleray_runtime.contract.config import ServingConfig, TrainingConfig
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.tensors import Tensor
from tests.runtime_ray.private_ray import PrivateRay, run_python
from tests.runtime_ray.test_end_to_end import RESOURCE, train, training_config
from tests.support.torch_runs import HereRun

pytestmark = [pytest.mark.ray, pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")

LAYERS = """
from torch import nn


class Bounded(nn.Module):
    def forward(self, x):
        return x.tanh()
"""

NETWORK = """
from torch import nn

from layers import Bounded


def network(*, inputs, outputs, parameters):
    return nn.Sequential(nn.Linear(inputs, int(parameters["width"])), Bounded(), nn.Linear(int(parameters["width"]), outputs))
"""


def configured(folder: Path, layers: str = LAYERS, **changes: Any) -> dict[str, Any]:
    code = folder / "code"
    code.mkdir()
    (code / "flowers.py").write_text(NETWORK)
    (code / "layers.py").write_text(layers)
    return training_config(
        folder,
        engine="Torch",
        workers={"min": 2, "max": 2, "cpus": 0.5, "gpus": 0},
        model={"family": "Custom", "custom": {"entrypoint": "flowers:network", "parameters": {"width": "8"}}},
        codeDirectory=str(code),
        **changes,
    )


def test_two_workers_train_it_on_streamed_rows_as_one_does_and_its_bundle_is_served_by_consent(
    ray: PrivateRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLERAY_ALLOW_FILE_URIS", "1")
    uri = f"file://{tmp_path}/rows.csv"
    split = {"validationPercent": 20, "testPercent": 20}
    data = {"uri": uri, "target": "kind", "loading": "Stream", "split": split}
    config = configured(tmp_path, data=data, dataLocation={"uri": uri}, dataFile=None)
    train(config, tmp_path, ray.environment)
    manifest = json.loads((tmp_path / "model" / "bundle.json").read_text())
    alone = HereRun(TrainingConfig.model_validate(config)).to_the_end()
    assert [point["training"] for point in manifest["history"]] == pytest.approx(
        alone.losses[: len(manifest["history"])], rel=1e-3
    )
    assert manifest["data"]["rows"] == 90
    accuracy = {metric["part"]: metric["value"] for metric in manifest["metrics"] if metric["name"] == "Accuracy"}
    assert set(accuracy) == {"Training", "Validation", "Test"}
    assert accuracy["Test"] > 0.8
    told = {"revision": "r1", "name": "m", "model": {"uri": f"file://{tmp_path}/model"}, "engine": "Torch", "remoteCode": "Allow"}
    model = load_model(ServingConfig.model_validate(told | {"resource": RESOURCE | {"kind": "ModelDeployment"}}))
    asked = Tensor("features", np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    assert model.infer([asked])["label"].tolist() == ["iris", "rose", "tulip"]


def test_what_fails_in_a_worker_is_tried_once_and_told_in_the_users_own_words(ray: PrivateRay, tmp_path: Path) -> None:
    # The few rows that the driver tries do not show it.
    tries = tmp_path / "tries"
    fails = f"print('once', file=open('{tries}', 'a'))\n            raise ValueError('too many')"
    layers = LAYERS.replace("        return", f"        if len(x) > 8:\n            {fails}\n        return")
    path = tmp_path / "training.json"
    path.write_text(json.dumps(configured(tmp_path, layers)))
    ended = run_python("-m", "eagleray_runtime.training", environment=ray.environment | {"EAGLERAY_CONFIG": str(path)})
    assert ended.returncode == 1
    # What Ray's workers have logged may come later.
    [told] = [line for line in ended.stderr.splitlines() if line.startswith("UserCodeFailed: ")]
    assert told.startswith("UserCodeFailed: the network of model.custom.entrypoint flowers:network failed: ")
    assert "layers.py" in told
    assert "raise ValueError('too many') ValueError: too many: correct the code, in a new job" in told
    assert len(tries.read_text().splitlines()) <= 2, "each worker's first"
