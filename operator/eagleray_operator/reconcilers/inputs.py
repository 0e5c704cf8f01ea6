"""Objects that a TrainingJob names and does not own: they must exist, with the keys that are asked for."""

from collections.abc import Iterator

from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.port import Ref
from eagleray_operator.reconcilers import starting
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.jobconditions import finished
from eagleray_operator.reconcilers.plan import Observed


def references(job: TrainingJob) -> set[Ref]:
    """Objects that must exist before the job can start; a ConfigMap is looked up only until then."""
    found = set() if job.status.attempts else {ref for ref, _ in _config_maps(job)}
    if (other := starting.reference(job)) is not None and not finished(job.status):
        found.add(other)
    return found


def without_key(job: TrainingJob, observed: Observed) -> Cause | None:
    """A ConfigMap that is there without the key that is asked for: its pod would wait for a volume without saying why."""
    for ref, key in _config_maps(job):
        if (found := observed.references.get(ref)) is None:
            continue
        keys = sorted({**(found.get("data") or {}), **(found.get("binaryData") or {})})
        if key not in keys:
            words = f"ConfigMap {ref.name} has no key {key}; it has {', '.join(keys) or 'none'}. Add it; this goes on by itself."
            return Cause(Reason.REFERENCE_NOT_FOUND, words)
    return None


def _config_maps(job: TrainingJob) -> Iterator[tuple[Ref, str]]:
    """ConfigMaps with the key that each must have: the rows, and the module of the network's entrypoint."""
    rows, custom = job.spec.data.config_map_ref, job.spec.model.custom
    if rows is not None:
        yield Ref("ConfigMap", job.metadata.namespace, rows.name), rows.key
    if custom is not None and custom.config_map_ref is not None:
        yield Ref("ConfigMap", job.metadata.namespace, custom.config_map_ref.name), f"{custom.entrypoint.partition(':')[0]}.py"
