"""Where the model is that a training starts from."""

from dataclasses import dataclass

from eagleray_operator.api import names
from eagleray_operator.api.conditions import ConditionType, find
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children.stores import Store
from eagleray_operator.cluster.port import Ref
from eagleray_operator.reconcilers import placement
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.plan import Observed
from eagleray_operator.settings import Settings


@dataclass(frozen=True)
class Start:
    """Where it is, and the digest that it must have, where that is known; or why it is not there yet.

    Without `store` and `problem` training starts from nothing.
    """

    store: Store | None = None
    digest: str | None = None
    problem: Cause | None = None


def reference(job: TrainingJob) -> Ref | None:
    """The TrainingJob whose model it is."""
    start = job.spec.model.start_from
    if start is None or start.training_job_ref is None:
        return None
    return Ref(names.TRAINING_JOB, job.metadata.namespace, start.training_job_ref.name)


def start_of(job: TrainingJob, observed: Observed, settings: Settings) -> Start:
    """What a job starts from."""
    start, ref = job.spec.model.start_from, reference(job)
    if start is None:
        return Start()
    if start.uri is not None:
        return Start(placement.start_at(start.uri, start.secret_ref.name if start.secret_ref else None, settings))
    if ref is None:
        raise ValueError("the rules of startFrom ask for uri or trainingJobRef")
    if ref.name == job.metadata.name:
        words = "model.startFrom.trainingJobRef names this job itself. Name another one, in a new job."
        return Start(problem=Cause(Reason.INVALID_SPEC, words))
    found = observed.references.get(ref)
    if found is None:
        words = f"TrainingJob {ref.name} is not in this namespace. Create it; this goes on by itself."
        return Start(problem=Cause(Reason.REFERENCE_NOT_FOUND, words))
    other = TrainingJob.model_validate(found)
    if other.status.model is None:
        return Start(problem=Cause(Reason.WAITING_FOR_JOB, _without_model(other)))
    secret = other.spec.output.secret_ref
    store = placement.start_at(other.status.model.uri, secret.name if secret else None, settings)
    return Start(store, other.status.model.digest)


def _without_model(job: TrainingJob) -> str:
    succeeded = find(job.status.conditions, ConditionType.SUCCEEDED)
    progressing = find(job.status.conditions, ConditionType.PROGRESSING)
    if succeeded is not None and succeeded.status == "False":
        return f"TrainingJob {job.metadata.name} failed by {succeeded.reason}: {succeeded.message} Start from one that succeeds."
    reason = progressing.reason if progressing else "not started"
    return f"TrainingJob {job.metadata.name} is {reason}. This follows when it has succeeded."
