"""Decides what a ModelDeployment needs now."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.conditions import Condition, ConditionStatus, ConditionType, find
from eagleray_operator.api.modeldeployment import (
    ModelDeployment,
    ModelDeploymentStatus,
    ReplicaCounts,
    RevisionState,
    ServedModel,
)
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.children import configmap, networkpolicy, rayservice, secret, service
from eagleray_operator.cluster.port import Manifest, ProbeResult, Ref
from eagleray_operator.reconcilers import applications, autoscaling, causes, engines, heads, placement, revisions
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.plan import Deletion, Observed, Plan
from eagleray_operator.reconcilers.prerequisites import unmet
from eagleray_operator.reconcilers.summary import Conditions, transition
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.blocks import Family, Reference, RemoteCode

PROBE_AGAIN_SECONDS = 1.0
"""How soon a revision that should answer and does not yet is asked again."""

Told = tuple[ConditionStatus, Reason, str]


@dataclass(frozen=True)
class Source:
    """The model that is to be served; `secret` is the one that its store needs, `family` what its job says of it.

    Code of a job's model may be run: it has run in this namespace, and the digest in the job's status covers it.
    """

    uri: str
    digest: str | None
    secret: str | None
    training_job: str | None
    family: Family | None
    remote_code: RemoteCode


@dataclass(frozen=True)
class Waiting:
    """What is told while the job that is named has no model to serve; `ready` is for a deployment that serves nothing."""

    ready: ConditionStatus
    progressing: Told


def references(deployment: ModelDeployment) -> set[Ref]:
    """The TrainingJob that the deployment follows."""
    job = deployment.spec.model.training_job_ref
    return {Ref(names.TRAINING_JOB, deployment.metadata.namespace, job.name)} if job else set()


def to_probe(deployment: ModelDeployment, observed: Observed) -> dict[str, bool]:
    """Revisions to ask, and whether through the Service (True) or past it: those whose application runs."""
    active = deployment.status.active_revision
    services = observed.of_kind("RayService")
    live = revisions.live_names(services)
    wanted = {}
    for ray_service in services:
        name = ray_service["metadata"]["name"]
        if name in live and applications.running(ray_service):
            wanted[name] = name == active or active not in live
    return wanted


def reconcile(deployment: ModelDeployment, observed: Observed, settings: Settings, now: datetime, key: bytes) -> Plan:
    """The plan for a deployment at that moment; `key` is the operator's own, from which Ray's token is derived."""
    if deployment.metadata.deletion_timestamp:
        return Plan()
    status = deployment.status
    problem, last = unmet(observed), _last_source(deployment)
    begins = not observed.of_kind("RayService")
    if problem is not None and (observed.missing_kinds or (begins and (observed.conflicts or last is None))):
        held: Told = ("False", problem.reason, problem.message)
        return _conclude(deployment, status, held, held, Plan(requeue_after=10), now, accepted=problem)
    if deployment.spec.replicas == 0:
        return _switch_off(deployment, observed, now)
    found = _source(deployment, observed, settings)
    if isinstance(found, Source):
        return _serve(deployment, found, observed, settings, now, key)
    waiting = _waiting(deployment, found)
    if last is not None:
        return _serve(deployment, last, observed, settings, now, key, waiting)
    return _hold(deployment, waiting, observed, settings, now)


def _source(deployment: ModelDeployment, observed: Observed, settings: Settings) -> Source | TrainingJob | None:
    """The model's place, or the job that has none yet; None where there is no such job."""
    model = deployment.spec.model
    if model.uri:
        secret = model.secret_ref.name if model.secret_ref else None
        return Source(model.uri, model.digest, secret, None, None, model.remote_code)
    reference = next(iter(references(deployment)))
    manifest = observed.references.get(reference)
    if manifest is None:
        return None
    job = TrainingJob.model_validate(manifest)
    succeeded = find(job.status.conditions, ConditionType.SUCCEEDED)
    if job.status.model is None or succeeded is None or succeeded.status != "True" or _failed_gate(job) is not None:
        return job
    saved, secret = job.status.model, placement.output_of(job, settings).secret
    return _of_job(saved.uri, saved.digest, secret, job.metadata.name, job.spec.model.family)


def _last_source(deployment: ModelDeployment) -> Source | None:
    """The model of the job that was followed last, which goes on serving while the one that is named has none."""
    model = deployment.status.model
    if model is None or model.uri is None or model.digest is None or model.training_job is None or model.family is None:
        return None
    secret = model.secret_ref.name if model.secret_ref else None
    return _of_job(model.uri, model.digest, secret, model.training_job, model.family)


def _of_job(uri: str, digest: str, secret: str | None, job: str, family: Family) -> Source:
    return Source(uri, digest, secret, job, family, RemoteCode.ALLOW if family is Family.CUSTOM else RemoteCode.DENY)


def _failed_gate(job: TrainingJob) -> Condition | None:
    gate = find(job.status.conditions, ConditionType.GATE_PASSED)
    return gate if gate is not None and gate.status == "False" else None


def _serve(
    deployment: ModelDeployment,
    source: Source,
    observed: Observed,
    settings: Settings,
    now: datetime,
    key: bytes,
    waiting: Waiting | None = None,
) -> Plan:
    """The plan to serve `source`, where it is that of another job than the one that is named with what that one is waited for."""
    status = deployment.status
    engine, choice = engines.for_serving(deployment.spec, source.family)
    values = revisions.content(deployment.spec, source.uri, source.digest, str(engine))
    target = revisions.name_of(deployment.metadata.name, values)
    live = revisions.live_names(observed.of_kind("RayService"))
    cause = _cause(deployment, target, observed, now)
    rollout = revisions.decide(
        known=status.revisions,
        active=status.active_revision,
        target=target,
        live=live,
        probe=observed.probes.get(target),
        cause=cause,
        digest=source.digest or _digest_of(observed.probes.get(target)),
        drain_seconds=settings.drain_seconds,
        now=now,
    )
    active = rollout.active or target
    serving = rayservice.Serving(
        revision=target.removeprefix(f"{deployment.metadata.name}-"),
        engine=engine,
        model=placement.model_at(source.uri, source.secret, settings),
        digest=source.digest,
        remote_code=source.remote_code,
        image=engines.image(engine, deployment.spec.runtime.image, settings),
    )
    wanted = rayservice.build(deployment, serving, settings, _ray_service(deployment, target, observed))
    token_is_needed = target not in live or causes.lacks_secret(
        observed.of_kind("Pod"), names.ray_token_secret(deployment.metadata.uid)
    )
    plan = Plan(
        ensure=(secret.of_deployment(deployment.metadata, key),) if token_is_needed else (),
        apply=(
            networkpolicy.build(names.MODEL_DEPLOYMENT, deployment.metadata, settings),
            *_config(deployment, serving, target, observed),
            wanted,
            service.build(deployment.metadata, active),
        ),
        patch=autoscaling.bounds_of_cluster(_ray_cluster(target, observed), wanted["spec"]["rayClusterConfig"]),
        delete=(
            *_deletions(observed, {revision.name for revision in rollout.revisions}),
            *_wedged(deployment, {active, target}, observed, now),
        ),
        requeue_after=min(_waits(deployment, rollout, {active, target}, observed, now), default=None),
    )

    probe = observed.probes.get(active)
    counts = autoscaling.count(deployment, active, observed)
    chosen = [choice] if choice else []
    if active == target or status.model is None:
        shown = ServedModel(
            name=deployment.metadata.name,
            uri=source.uri,
            digest=_digest_of(probe) or source.digest,
            engine=probe.engine if probe and probe.ready else str(engine),
            training_job=source.training_job,
            family=source.family,
            secret_ref=Reference(name=source.secret) if source.secret else None,
        )
    else:
        shown = status.model
    status = status.model_copy(
        update={
            "active_revision": active,
            "revisions": list(rollout.revisions),
            "replicas": counts,
            "scaling": autoscaling.decisions(deployment, counts, active, now),
            "model": shown,
            "chosen": chosen,
            "url": observed.url,
            "selector": _selector(deployment, active),
        }
    )
    lost = heads.away(_ray_cluster(active, observed), _pods(active, observed), now)
    ready, progressing = _told(deployment, target, active, probe, counts, cause, lost, observed, rollout)
    if ready[0] != "True" and applications.running(_ray_service(deployment, active, observed)):
        plan = replace(plan, requeue_after=PROBE_AGAIN_SECONDS)
    if target != active and applications.running(_ray_service(deployment, target, observed)):
        plan = replace(plan, requeue_after=PROBE_AGAIN_SECONDS)
    if waiting is not None:
        progressing = waiting.progressing
    return _conclude(deployment, status, ready, progressing, plan, now, accepted=unmet(observed))


def _digest_of(probe: ProbeResult | None) -> str | None:
    """Digest of the bundle, as the replica that has answered verified it."""
    return probe.digest if probe is not None and probe.ready else None


def _config(deployment: ModelDeployment, serving: rayservice.Serving, revision: str, observed: Observed) -> list[Manifest]:
    """The config of a revision, where there is none yet."""
    name = names.serving_config(deployment.metadata.name, serving.revision)
    if observed.child(Ref("ConfigMap", deployment.metadata.namespace, name)) is not None:
        return []
    config = rayservice.config(deployment, serving)
    return [configmap.build(names.MODEL_DEPLOYMENT, deployment.metadata, name, config, revision=revision)]


def _silent(wanted: set[str], observed: Observed) -> list[str]:
    """Those of the revisions that do not answer."""
    return [name for name in sorted(wanted) if not ((probe := observed.probes.get(name)) and probe.ready)]


def _wedged(deployment: ModelDeployment, wanted: set[str], observed: Observed, now: datetime) -> tuple[Deletion, ...]:
    """RayServices whose head nobody else mends: made anew once they are gone. One that answers is left to its users."""
    return tuple(
        Deletion(Ref.of(live), live["metadata"]["uid"])
        for name in _silent(wanted, observed)
        if (live := _ray_service(deployment, name, observed)) is not None
        and not live["metadata"].get("deletionTimestamp")
        and heads.wedged(_pods(name, observed), now, was_ready=_was_complete(name, observed)) is not None
    )


def _waits(
    deployment: ModelDeployment, rollout: revisions.Rollout, wanted: set[str], observed: Observed, now: datetime
) -> list[float]:
    """Seconds after which time alone may tell more."""
    waits = [(rollout.next_look - now).total_seconds()] if rollout.next_look else []
    for name in _silent(wanted, observed):
        pods = _pods(name, observed)
        wedges = heads.next_look(pods, now, was_ready=_was_complete(name, observed))
        waits.append(causes.still_after([_ray_service(deployment, name, observed), *pods], now) if wedges is None else wedges)
    return waits


def _was_complete(revision: str, observed: Observed) -> bool:
    return heads.was_complete(_ray_cluster(revision, observed))


def _told(
    deployment: ModelDeployment,
    target: str,
    active: str,
    probe: ProbeResult | None,
    counts: ReplicaCounts,
    cause: Cause | None,
    lost: Cause | None,
    observed: Observed,
    rollout: revisions.Rollout,
) -> tuple[Told, Told]:
    """Ready and Progressing; `cause` keeps the target from serving, `lost` is why the active revision is without its head."""
    answers = probe is not None and probe.ready
    if target != active:
        what: Told = (
            ("False", cause.reason, f"{target} failed: {cause.message}")
            if cause
            else ("True", *_starting(deployment, target, observed))
        )
        if not answers:
            reason, words = _silence(active, probe, lost or cause)
            return ("False", reason, f"{words}; {target} is on its way."), what
        if cause:
            return ("True", Reason.SERVING_PREVIOUS, f"{target} failed: {cause.message} {active} serves. Correct it."), what
        return ("True", Reason.SERVING, f"{active} serves at {observed.url} while {target} starts."), what
    if answers:
        serving: Told = ("True", Reason.SERVING, f"{counts.ready} of {counts.desired} replicas serve at {observed.url}")
        if deployment.spec.autoscaling and (broken := heads.without_autoscaler(_pods(active, observed))) is not None:
            advice = f"Delete RayService {active} to have it replaced, with about a minute's outage."
            return serving, ("False", Reason.HEAD_LOST, f"{broken} {active} serves and does not scale. {advice}")
        if any(revision.state is RevisionState.DRAINING for revision in rollout.revisions):
            return serving, ("True", Reason.DRAINING, "The revision before serves its last connections.")
        return serving, ("False", Reason.ROLLED_OUT, f"{active} has all traffic.")
    if cause is not None:
        told: Told = ("False", cause.reason, cause.message)
        return told, told
    reason, message = _starting(deployment, target, observed)
    has_served = deployment.status.first_ready_time is not None
    return ("False" if has_served else "Unknown", reason, message), ("True", reason, message)


def _silence(active: str, probe: ProbeResult | None, why: Cause | None) -> tuple[Reason, str]:
    """Why the active revision does not answer."""
    said = why.message if why else probe.message if probe else ""
    return why.reason if why else Reason.STARTING, f"{active} does not answer{': ' + said if said else ''}"


def _starting(deployment: ModelDeployment, revision: str, observed: Observed) -> tuple[Reason, str]:
    ray_service = _ray_service(deployment, revision, observed)
    if applications.running(ray_service):
        probe = observed.probes.get(revision)
        said = f" It said: {probe.message}" if probe and probe.message else ""
        return Reason.CHECKING, f"{revision} runs; a first request has not been answered yet.{said}"
    if applications.deploying(ray_service):
        return Reason.LOADING_MODEL, f"The replicas of {revision} load the model."
    pods = [pod for pod in _pods(revision, observed) if pod.get("status", {}).get("phase") == "Running"]
    wanted = 1 + rayservice.bounds(deployment)[0]
    return Reason.STARTING, f"{min(len(pods), wanted)} of {wanted} pods of {revision} run."


def _cause(deployment: ModelDeployment, revision: str, observed: Observed, now: datetime) -> Cause | None:
    """What keeps a revision from serving; replicas beyond the first that find no room are not a failure."""
    ray_service, cluster = _ray_service(deployment, revision, observed), _ray_cluster(revision, observed)
    if refused := causes.of_refusal(observed.refused):
        return refused
    if applications.running(ray_service):
        return None
    pods = _pods(revision, observed)
    return (
        heads.away(cluster, pods, now)
        or applications.cause(ray_service)
        or causes.of_ray_cluster(cluster)
        or causes.of_pods(pods, now)
        or causes.of_kuberay(ray_service, cluster, now)
    )


def _ray_service(deployment: ModelDeployment, revision: str, observed: Observed) -> Manifest | None:
    return observed.child(Ref("RayService", deployment.metadata.namespace, revision))


def _pods(revision: str, observed: Observed) -> list[Manifest]:
    return [pod for pod in observed.of_kind("Pod") if pod["metadata"]["labels"].get(names.LABEL_REVISION) == revision]


def _ray_cluster(revision: str, observed: Observed) -> Manifest | None:
    return next(
        (
            cluster
            for cluster in observed.of_kind("RayCluster")
            if any(owner["name"] == revision for owner in cluster["metadata"].get("ownerReferences", []))
        ),
        None,
    )


def _deletions(observed: Observed, kept: set[str]) -> tuple[Deletion, ...]:
    """RayServices and configs of revisions that are no longer known."""
    return tuple(
        Deletion(Ref.of(child), child["metadata"]["uid"])
        for kind in ("RayService", "ConfigMap")
        for child in observed.of_kind(kind)
        if child["metadata"].get("labels", {}).get(names.LABEL_REVISION) not in kept
        and not child["metadata"].get("deletionTimestamp")
    )


def _selector(deployment: ModelDeployment, revision: str) -> str:
    labels = service.selector(deployment.metadata.name, revision)
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _switch_off(deployment: ModelDeployment, observed: Observed, now: datetime) -> Plan:
    plan = Plan(delete=_deletions(observed, set()))
    off: Told = ("False", Reason.SWITCHED_OFF, "spec.replicas is 0. Set it to 1 or more to serve again.")
    status = deployment.status.model_copy(
        update={"active_revision": None, "revisions": [], "replicas": ReplicaCounts(), "url": None, "selector": None}
    )
    return _conclude(deployment, status, off, off, plan, now)


def _waiting(deployment: ModelDeployment, job: TrainingJob | None) -> Waiting:
    """What is to be told of a job that has no model to serve."""
    name = next(iter(references(deployment))).name
    if job is None:
        words = f"TrainingJob {name} is not in this namespace. Create it; this goes on by itself."
        return Waiting("False", ("False", Reason.REFERENCE_NOT_FOUND, words))
    succeeded = find(job.status.conditions, ConditionType.SUCCEEDED)
    progressing = find(job.status.conditions, ConditionType.PROGRESSING)
    if succeeded is not None and succeeded.status == "False":
        words = f"TrainingJob {name} failed by {succeeded.reason}: {succeeded.message} Create a job that succeeds."
        return Waiting("False", ("False", Reason.WAITING_FOR_JOB, words))
    if (gate := _failed_gate(job)) is not None:
        words = f"TrainingJob {name}: {gate.message} Create a job that passes, or name the model's place in model.uri."
        return Waiting("False", ("False", Reason.GATE_FAILED, words))
    reason = progressing.reason if progressing else "not started"
    return Waiting(
        "Unknown", ("True", Reason.WAITING_FOR_JOB, f"TrainingJob {name} is {reason}. This follows when it has succeeded.")
    )


def _hold(deployment: ModelDeployment, waiting: Waiting, observed: Observed, settings: Settings, now: datetime) -> Plan:
    """No model yet; what already serves goes on serving as it is."""
    status, active = deployment.status, deployment.status.active_revision
    if active is None or active not in revisions.live_names(observed.of_kind("RayService")):
        _, reason, words = waiting.progressing
        return _conclude(
            deployment, status, (waiting.ready, reason, words), waiting.progressing, Plan(), now, accepted=unmet(observed)
        )
    probe = observed.probes.get(active)
    status = status.model_copy(update={"replicas": autoscaling.count(deployment, active, observed)})
    plan = Plan(
        apply=(
            networkpolicy.build(names.MODEL_DEPLOYMENT, deployment.metadata, settings),
            service.build(deployment.metadata, active),
        )
    )
    if probe is not None and probe.ready:
        ready: Told = ("True", Reason.SERVING, f"{active} serves at {observed.url}.")
    else:
        reason, words = _silence(active, probe, heads.away(_ray_cluster(active, observed), _pods(active, observed), now))
        ready = ("False", reason, f"{words}.")
        plan = replace(plan, requeue_after=PROBE_AGAIN_SECONDS)
    return _conclude(deployment, status, ready, waiting.progressing, plan, now, accepted=unmet(observed))


def _conclude(
    deployment: ModelDeployment,
    status: ModelDeploymentStatus,
    ready: Told,
    progressing: Told,
    plan: Plan,
    now: datetime,
    accepted: Cause | None = None,
) -> Plan:
    conditions = Conditions(deployment.metadata.generation)
    if accepted is None:
        conditions.set(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)
    else:
        conditions.set(ConditionType.ACCEPTED, "False", accepted.reason, accepted.message)
    conditions.set(ConditionType.READY, *ready)
    conditions.set(ConditionType.PROGRESSING, *progressing)
    settled = conditions.settled(deployment.status.conditions, now)
    new = status.model_copy(
        update={
            "observed_generation": deployment.metadata.generation,
            "conditions": settled,
            "first_ready_time": status.first_ready_time or (now if ready[0] == "True" else None),
        }
    )
    events = transition(deployment.status.conditions, settled, ConditionType.READY, "Serve")
    return replace(plan, status=_dump(new), events=events)


def _dump(status: ModelDeploymentStatus) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)
