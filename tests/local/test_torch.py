"""The torch engine in local mode: Ray Train on the private Ray, whatever other Rays run on the machine."""

import json
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from eagleray_operator.cluster.admission import judges
from eagleray_operator.local.manifests import admit, parse
from eagleray_operator.local.session import LocalRun

pytestmark = [pytest.mark.ray, pytest.mark.torch]

MANIFESTS = """
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {{name: digits, namespace: default}}
spec:
  data: {{uri: "file://{folder}/digits.npz", target: digit}}
  model: {{family: ConvolutionalNetwork, convolutionalNetwork: {{channels: [8, 16], hiddenLayers: [32]}}}}
  training: {{engine: Torch, epochs: 8, batchSize: 100, optimizer: {{type: Adam, learningRate: 0.003}}}}
  workers: {{min: 2}}
  output: {{uri: "file://{folder}/model"}}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {{name: digits, namespace: default}}
spec:
  model: {{trainingJobRef: {{name: digits}}}}
  engine: {{type: Torch}}
"""


@pytest.mark.slow
async def test_two_workers_learn_digits_which_torch_tells_apart_when_it_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(tmp_path / "digits.npz", images=digits.images, digit=digits.target)
    seen = set()
    async with LocalRun(tmp_path / "volumes") as run, aiohttp.ClientSession() as client:

        def settled() -> bool:
            [job] = run.cluster.of_kind("TrainingJob")
            seen.add(job.get("status", {}).get("progress", {}).get("workers"))
            return run.settled()

        await run.apply(admit(parse(MANIFESTS.format(folder=tmp_path), "test.yaml"), judges()))
        await run.until(settled)
        assert all(view.good for view in run.views()), run.views()
        [job] = run.cluster.of_kind("TrainingJob")
        [deployment] = run.cluster.of_kind("ModelDeployment")
        image = {"name": "image", "datatype": "FP64", "shape": [100, 8, 8, 1], "data": digits.images[:100].ravel().tolist()}
        url = f"{deployment['status']['url']}/v2/models/digits/infer"
        async with client.post(url, json={"inputs": [image]}) as response:
            assert response.status == 200, await response.text()
            outputs = {output["name"]: output["data"] for output in (await response.json())["outputs"]}
    assert 2 in seen
    assert job["status"]["model"]["engine"] == deployment["status"]["model"]["engine"] == "Torch"
    assert job["status"]["model"]["digest"] == deployment["status"]["model"]["digest"]
    manifest = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert manifest["signature"]["inputs"] == [{"name": "image", "datatype": "FP64", "shape": [-1, 8, 8, 1]}]
    accuracy = {(metric["name"], metric["part"]): metric["value"] for metric in manifest["metrics"]}
    assert accuracy["Accuracy", "Test"] > 0.9
    assert np.mean(np.array(outputs["label"]).astype(int) == digits.target[:100]) > 0.9
    assert np.reshape(outputs["probabilities"], (100, 10)).sum(axis=1) == pytest.approx(np.ones(100))
