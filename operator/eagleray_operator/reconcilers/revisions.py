"""Which revision serves, which is on its way, which may go."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeploymentSpec, Revision, RevisionState
from eagleray_operator.cluster.port import Manifest, ProbeResult
from eagleray_operator.reconcilers.causes import Cause
from eagleray_runtime.contract.blocks import RemoteCode


def content(spec: ModelDeploymentSpec, uri: str, digest: str | None, engine: str) -> dict[str, Any]:
    """What needs new pods when it changes; only values that are set, so that a new field at its default changes nothing."""
    values: dict[str, Any] = {
        "uri": uri,
        "digest": digest,
        "secret": spec.model.secret_ref.name if spec.model.secret_ref else None,
        "remoteCode": spec.model.remote_code if spec.model.remote_code is RemoteCode.ALLOW else None,
        "engine": engine,
        "resources": spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True),
        **spec.runtime.model_dump(mode="json", by_alias=True, exclude_none=True),
        **spec.scheduling.model_dump(mode="json", by_alias=True, exclude_none=True),
        "autoscaling": True if spec.autoscaling else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def name_of(deployment: str, values: dict[str, Any]) -> str:
    """Name of the revision with that content, which is the name of its RayService."""
    return names.ray_service(deployment, names.content_hash(values))


@dataclass(frozen=True)
class Rollout:
    """The revisions after this moment's decision; `expired` have drained."""

    active: str | None
    revisions: tuple[Revision, ...]
    expired: tuple[str, ...]
    next_look: datetime | None


def decide(
    known: list[Revision],
    active: str | None,
    target: str,
    live: set[str],
    probe: ProbeResult | None,
    cause: Cause | None,
    digest: str | None,
    drain_seconds: int,
    now: datetime,
) -> Rollout:
    """Move traffic when the target answers, and let the others go.

    `live` are the RayServices that exist, `probe` is the target's answer and `cause` what keeps it from answering. The
    first revision gets the Service at once, as there is nothing to keep; a later one only after a real answer of its own.
    A revision that lost the traffic serves for `drain_seconds` more, for connections that stay on it.
    """
    by_name = {revision.name: revision for revision in known if revision.name in live or revision.name == target}
    for name in live - by_name.keys():
        by_name[name] = Revision(name=name, state=RevisionState.PENDING, created_time=now)
    by_name.setdefault(target, Revision(name=target, state=RevisionState.PENDING, created_time=now))
    if active not in live:
        active = None
    answers = probe is not None and probe.ready
    if active is None or (answers and active != target):
        active = target
    expired: list[str] = []
    looks: list[datetime] = []
    revisions: list[Revision] = []
    for name, revision in by_name.items():
        if name == active:
            state, since = RevisionState.ACTIVE, None
        elif name == target:
            state, since = (RevisionState.FAILED if cause else RevisionState.PENDING), None
        elif revision.state in (RevisionState.ACTIVE, RevisionState.DRAINING):
            state, since = RevisionState.DRAINING, revision.draining_since or now
            end = since + timedelta(seconds=drain_seconds)
            if now >= end:
                expired.append(name)
                continue
            looks.append(end)
        else:
            expired.append(name)
            continue
        told = cause if name == target else None
        revisions.append(
            revision.model_copy(
                update={
                    "state": state,
                    "draining_since": since,
                    "digest": (digest if name == target else None) or revision.digest,
                    "reason": told.reason if told else None,
                    "message": told.message if told else "",
                }
            )
        )
    revisions.sort(key=lambda revision: (revision.created_time or now, revision.name), reverse=True)
    return Rollout(active, tuple(revisions[:12]), tuple(sorted(expired)), min(looks) if looks else None)


def live_names(ray_services: list[Manifest]) -> set[str]:
    """Names of the RayServices that are not on their way out."""
    return {service["metadata"]["name"] for service in ray_services if not service["metadata"].get("deletionTimestamp")}
