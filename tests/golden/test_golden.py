"""Each folder beside this file holds a resource and the children that it gets: `in.yaml` and `out.yaml`.

`UPDATE_GOLDEN=1 pytest tests/golden` writes out.yaml anew; read the difference before you commit it.
"""

import os
from pathlib import Path

import pytest
import yaml

from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.reconcilers import modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed
from eagleray_operator.settings import ModelStore, Settings
from tests.support.makers import KEY, NOW

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/in.yaml"))
SETTINGS = Settings(
    reports_url="http://eagleray-reports.eagleray-system.svc:8081/v1/reports",
    model_store=ModelStore(uri="s3://models", secret_name="model-store"),
)


def rendered(manifest: dict) -> str:
    manifest["metadata"] |= {"namespace": "default", "uid": "00000000-0000-4000-8000-000000000000", "generation": 1}
    observed = Observed(url=f"http://{manifest['metadata']['name']}.default.svc.cluster.local")
    if manifest["kind"] == "TrainingJob":
        plan = trainingjob.reconcile(TrainingJob.model_validate(manifest), observed, SETTINGS, NOW, KEY)
    else:
        plan = modeldeployment.reconcile(ModelDeployment.model_validate(manifest), observed, SETTINGS, NOW, KEY)
    return yaml.safe_dump_all([*plan.ensure, *plan.apply], sort_keys=False, width=120)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_resource_gets_exactly_these_children(case: Path):
    actual = rendered(yaml.safe_load((case / "in.yaml").read_text()))
    expected = case / "out.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(actual)
    assert actual == expected.read_text()


def test_there_are_cases():
    assert len(CASES) >= 4
