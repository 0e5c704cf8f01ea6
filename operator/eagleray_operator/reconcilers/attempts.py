"""What has become of an attempt: read from its RayJob, its RayCluster and its pods."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers import causes, heads
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.text import quote

FINAL = {
    Reason.DATA_INVALID,
    Reason.STORE_REFUSED,
    Reason.MODEL_INVALID,
    Reason.USER_CODE_FAILED,
    Reason.DIGEST_MISMATCH,
    Reason.DIVERGED,
    Reason.ADMISSION_DENIED,
    Reason.STOPPED_OUTSIDE,
    Reason.START_DEADLINE_EXCEEDED,
}
"""Reasons that another attempt cannot help: it would meet the same data, store or cluster."""

ENDS_A_HEAD = {Reason.HEAD_LOST, Reason.OUT_OF_MEMORY, Reason.WORKER_LOST, Reason.CONTAINER_FAILED}
"""Causes that a head's own pod may have told before it went."""

RESUMES = "The next attempt goes on from the checkpoint."


class AttemptState(Enum):
    """Where an attempt stands."""

    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """State of an attempt, and the cause of a failure or of a start that is held up.

    `look_again`: seconds after which time alone may tell more.
    """

    state: AttemptState
    cause: Cause | None = None
    look_again: float | None = None


def examine(
    ray_job: Manifest | None, cluster: Manifest | None, pods: list[Manifest], latched: Cause | None, now: datetime
) -> Finding:
    """Judge an attempt; `latched` is the cause that was seen last, for the pods that told it may be gone by now."""
    status = (ray_job or {}).get("status") or {}
    deployment = status.get("jobDeploymentStatus", "")
    job = status.get("jobStatus", "")
    if deployment == "Suspended":
        return Finding(AttemptState.SUSPENDED)
    if deployment == "Complete" and job == "SUCCEEDED":
        return Finding(AttemptState.SUCCEEDED)
    if deployment == "Complete" and job == "STOPPED":
        words = f"Ray job {status.get('jobId', '')} was stopped from outside. Create the job again."
        return Finding(AttemptState.FAILED, Cause(Reason.STOPPED_OUTSIDE, words))
    if deployment in ("Failed", "Complete"):
        return Finding(AttemptState.FAILED, _failure(status, pods, latched, now))
    if deployment == "ValidationFailed":
        words = f"KubeRay refused the job: {quote(str(status.get('message', '')))}"
        return Finding(AttemptState.FAILED, Cause(Reason.ADMISSION_DENIED, words))
    if deployment == "Running":
        lost = _lost(status, cluster, pods, latched, now)
        if lost is not None:
            return Finding(AttemptState.FAILED, lost)
        return Finding(AttemptState.RUNNING, _shaky(cluster, pods, now), heads.next_look(pods, now, was_ready=True))
    if deployment in ("Suspending", "Retrying"):
        return Finding(AttemptState.STARTING)
    # KubeRay would make one head after another, as fast as they end, until the deadline.
    if (useless := heads.ended(pods, now) or heads.wedged(pods, now, was_ready=False)) is not None:
        return Finding(AttemptState.FAILED, useless)
    cause = causes.of_ray_cluster(cluster) or causes.of_pods(pods, now) or causes.of_kuberay(ray_job, cluster, now)
    wedges = heads.next_look(pods, now, was_ready=False)
    return Finding(AttemptState.STARTING, cause, causes.still_after([ray_job, *pods], now) if wedges is None else wedges)


def _lost(status: Manifest, cluster: Manifest | None, pods: list[Manifest], latched: Cause | None, now: datetime) -> Cause | None:
    """How a running attempt has lost its head, where KubeRay says nothing of it or starts again from zero."""
    if heads.is_gone(cluster):
        told = latched if latched and latched.reason in ENDS_A_HEAD else None
        return told or Cause(Reason.HEAD_LOST, f"The head pod is gone. {RESUMES}")
    begun = (status.get("rayJobInfo") or {}).get("startTime")
    made = (cluster or {}).get("metadata", {}).get("creationTimestamp")
    if begun and made and causes.moment(made) > causes.moment(begun):
        return Cause(Reason.HEAD_LOST, f"The Ray cluster was deleted from outside. {RESUMES}")
    return heads.wedged(pods, now, was_ready=True)


def _shaky(cluster: Manifest | None, pods: list[Manifest], now: datetime) -> Cause | None:
    """Why the head goes, while its pod can still tell it; a cluster that goes as a whole is no loss."""
    if cluster is None or cluster["metadata"].get("deletionTimestamp"):
        return None
    return heads.going(pods, now)


def _failure(status: Manifest, pods: list[Manifest], latched: Cause | None, now: datetime) -> Cause:
    reason = status.get("reason", "")
    words = quote(str(status.get("message", "")))
    if reason == "PreRunningDeadlineExceeded":
        newest = latched.message if latched else words
        return Cause(Reason.START_DEADLINE_EXCEEDED, f"The pods did not start in time: {newest}")
    if reason in ("SubmissionFailed", "JobStatusCheckTimeoutExceeded"):
        return Cause(Reason.HEAD_LOST, f"KubeRay lost the head: {words}. {RESUMES}")
    memory = causes.of_pods(pods, now)
    if memory is not None and memory.reason is Reason.OUT_OF_MEMORY:
        return memory
    why = causes.of_words(str(status.get("message", ""))) or Reason.CONTAINER_FAILED
    return Cause(why, f"The training process failed: {words or 'it left no word'}")
