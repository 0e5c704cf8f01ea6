"""`eagleray render`: the children that the operator would make, without touching anything."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import yaml

from eagleray_operator.api import crd, names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.local.manifests import admit, read
from eagleray_operator.reconcilers import modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed, Plan
from eagleray_operator.settings import Settings

UID = "00000000-0000-0000-0000-000000000000"
REDACTED = "REDACTED"


def render(paths: Sequence[str], settings: Settings, namespace: str = "default") -> Iterator[str]:
    """The children of each resource as YAML documents; raises ManifestError with all that a cluster would refuse."""
    for manifest in admit(read(paths, namespace), judges(crd.URI_SCHEMES)):
        if manifest["kind"] in names.RESOURCE_LABEL:
            plan = _plan(manifest, settings)
            children = [_redacted(child) for child in plan.ensure] + list(plan.apply)
            title = f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            if not children:
                yield f"# {title} has no children yet. {_words(plan)}\n"
            for child in children:
                yield f"---\n# of {title}\n{yaml.safe_dump(child, sort_keys=False, width=1000)}"


def _plan(manifest: Manifest, settings: Settings) -> Plan:
    manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": UID, "generation": 1}}
    now = datetime.now(UTC)
    if manifest["kind"] == names.TRAINING_JOB:
        return trainingjob.reconcile(TrainingJob.model_validate(manifest), Observed(), settings, now, b"")
    return modeldeployment.reconcile(ModelDeployment.model_validate(manifest), Observed(), settings, now, b"")


def _redacted(child: Manifest) -> Manifest:
    if child["kind"] != "Secret":
        return child
    return {**child, "data": dict.fromkeys(child.get("data") or {}, REDACTED)}


def _words(plan: Plan) -> str:
    conditions = (plan.status or {}).get("conditions") or []
    return next((condition["message"] for condition in conditions if condition["type"] == "Progressing"), "")
