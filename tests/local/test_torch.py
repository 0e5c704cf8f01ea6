"""The torch engine in local mode: Ray Train on the private Ray, whatever other Rays run on the machine."""

from pathlib import Path

import pytest

from eagleray_operator.cluster.admission import judges
from eagleray_operator.local.manifests import admit, parse
from eagleray_operator.local.session import LocalRun

pytestmark = [pytest.mark.ray, pytest.mark.torch]

MANIFESTS = """
apiVersion: eagleray.io/v1alpha1
kind: TrainingJob
metadata: {name: line, namespace: default}
spec:
  data: {sample: LinearRegression}
  model: {family: LinearRegression}
  training: {engine: Torch, epochs: 50}
  workers: {min: 1, max: 2}
---
apiVersion: eagleray.io/v1alpha1
kind: ModelDeployment
metadata: {name: line, namespace: default}
spec:
  model: {trainingJobRef: {name: line}}
  engine: {type: Torch}
"""


async def test_a_model_is_trained_on_two_workers_and_served_by_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    async with LocalRun(tmp_path / "volumes") as run:
        await run.apply(admit(parse(MANIFESTS, "test.yaml"), judges()))
        await run.until(run.settled)
        [job] = run.cluster.of_kind("TrainingJob")
        [deployment] = run.cluster.of_kind("ModelDeployment")
        assert all(view.good for view in run.views()), run.views()
        assert job["status"]["model"]["engine"] == deployment["status"]["model"]["engine"] == "Torch"
        assert job["status"]["model"]["digest"] == deployment["status"]["model"]["digest"]
        assert job["status"]["progress"]["workers"] == 2
