"""The torch engine in local mode: Ray Train on the private Ray, whatever other Rays run on the machine."""

import json
from pathlib import Path

import pytest

from eagleray_operator.cluster.admission import judges
from eagleray_operator.local.manifests import admit, parse
from eagleray_operator.local.session import LocalRun

pytestmark = [pytest.mark.ray, pytest.mark.torch]

MANIFESTS = """
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {{name: alone, namespace: default}}
spec:
  data: {{sample: LinearRegression}}
  model: {{family: LinearRegression}}
  training: {{engine: NumPy, epochs: 50}}
  output: {{uri: "file://{folder}/alone"}}
---
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {{name: two, namespace: default}}
spec:
  data: {{sample: LinearRegression}}
  model: {{family: LinearRegression}}
  training: {{engine: Torch, epochs: 50}}
  workers: {{min: 2}}
  output: {{uri: "file://{folder}/two"}}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {{name: two, namespace: default}}
spec:
  model: {{trainingJobRef: {{name: two}}}}
  engine: {{type: Torch}}
"""


async def test_two_workers_train_with_torch_what_numpy_trains_alone_and_torch_serves_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    seen = set()
    async with LocalRun(tmp_path / "volumes") as run:

        def settled() -> bool:
            told = [job.get("status", {}).get("progress", {}) for job in run.cluster.of_kind("TrainingJob")]
            seen.update(progress.get("workers") for progress in told)
            return run.settled()

        await run.apply(admit(parse(MANIFESTS.format(folder=tmp_path), "test.yaml"), judges()))
        await run.until(settled)
        assert all(view.good for view in run.views()), run.views()
        jobs = {job["metadata"]["name"]: job["status"] for job in run.cluster.of_kind("TrainingJob")}
        [deployment] = run.cluster.of_kind("ModelDeployment")
    assert 2 in seen
    assert jobs["two"]["model"]["engine"] == deployment["status"]["model"]["engine"] == "Torch"
    assert jobs["two"]["model"]["digest"] == deployment["status"]["model"]["digest"]
    alone, two = (json.loads((tmp_path / name / "bundle.json").read_text()) for name in ("alone", "two"))
    for expected, found in zip(alone["coefficients"], two["coefficients"], strict=True):
        assert found["weights"] == pytest.approx(expected["weights"], rel=1e-3)
    for expected, found in zip(alone["metrics"], two["metrics"], strict=True):
        assert found["value"] == pytest.approx(expected["value"], rel=1e-3)
