"""`eagleray render`: the children that the operator would make, without touching anything."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from eagleray_operator.api import crd, names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.manifests import admit, read
from eagleray_operator.reconcilers import inputs, modeldeployment, trainingjob
from eagleray_operator.reconcilers.plan import Observed, Plan
from eagleray_operator.settings import Settings

UID = "00000000-0000-0000-0000-000000000000"
REDACTED = "REDACTED"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and the same value twice in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def render(paths: Sequence[str], settings: Settings, namespace: str = "default") -> Iterator[str]:
    """The children of each resource as YAML documents; raises ManifestError with all that a cluster would refuse."""
    manifests = [_numbered(manifest) for manifest in admit(read(paths, namespace), judges(crd.URI_SCHEMES))]
    known = {Ref.of(manifest): manifest for manifest in manifests}
    for manifest in manifests:
        if manifest["kind"] in names.RESOURCE_LABEL:
            plan = _plan(manifest, known, settings)
            children = [_redacted(child) for child in plan.ensure] + list(plan.apply)
            title = f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            if not children:
                yield f"# {title} has no children yet. {_words(plan)}\n"
            for child in children:
                yield f"---\n# of {title}\n{yaml.dump(child, Dumper=_Dumper, sort_keys=False, width=1000)}"


def _numbered(manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": UID, "generation": 1}}


def _plan(manifest: Manifest, known: Mapping[Ref, Manifest], settings: Settings) -> Plan:
    now = datetime.now(UTC)
    if manifest["kind"] == names.TRAINING_JOB:
        job = TrainingJob.model_validate(manifest)
        return trainingjob.reconcile(job, _observed(inputs.references(job), known), settings, now, b"")
    deployment = ModelDeployment.model_validate(manifest)
    return modeldeployment.reconcile(deployment, _observed(modeldeployment.references(deployment), known), settings, now, b"")


def _observed(references: set[Ref], known: Mapping[Ref, Manifest]) -> Observed:
    return Observed(references={ref: known[ref] for ref in references if ref in known})


def _redacted(child: Manifest) -> Manifest:
    if child["kind"] != "Secret":
        return child
    return {**child, "data": dict.fromkeys(child.get("data") or {}, REDACTED)}


def _words(plan: Plan) -> str:
    conditions = (plan.status or {}).get("conditions") or []
    return next((condition["message"] for condition in conditions if condition["type"] == "Progressing"), "")
