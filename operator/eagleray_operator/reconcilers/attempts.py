"""What has become of an attempt: read from its RayJob, its RayCluster and its pods."""

from dataclasses import dataclass
from enum import Enum

from eagleray_operator.api.reasons import Reason
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.reconcilers import causes
from eagleray_operator.reconcilers.causes import Cause
from eagleray_operator.reconcilers.text import quote

FINAL = {
    Reason.DATA_INVALID,
    Reason.STORE_REFUSED,
    Reason.MODEL_INVALID,
    Reason.DIGEST_MISMATCH,
    Reason.DIVERGED,
    Reason.ADMISSION_DENIED,
    Reason.STOPPED_OUTSIDE,
    Reason.START_DEADLINE_EXCEEDED,
}
"""Reasons that another attempt cannot help: it would meet the same data, store or cluster."""


class AttemptState(Enum):
    """Where an attempt stands."""

    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """State of an attempt, and the cause of a failure or of a start that is held up."""

    state: AttemptState
    cause: Cause | None = None


def examine(ray_job: Manifest | None, cluster: Manifest | None, pods: list[Manifest], latched: Cause | None) -> Finding:
    """Judge an attempt; `latched` is the cause that was seen last, for a deadline deletes the pods that told it."""
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
        return Finding(AttemptState.FAILED, _failure(status, pods, latched))
    if deployment == "ValidationFailed":
        words = f"KubeRay refused the job: {quote(str(status.get('message', '')))}"
        return Finding(AttemptState.FAILED, Cause(Reason.ADMISSION_DENIED, words))
    if deployment == "Running":
        if causes.head_is_lost(cluster):
            cause = causes.of_pods(pods) or Cause(
                Reason.HEAD_LOST, "The head pod is gone. The next attempt goes on from the checkpoint."
            )
            return Finding(AttemptState.FAILED, cause)
        return Finding(AttemptState.RUNNING)
    return Finding(AttemptState.STARTING, causes.of_ray_cluster(cluster) or causes.of_pods(pods))


def _failure(status: Manifest, pods: list[Manifest], latched: Cause | None) -> Cause:
    reason = status.get("reason", "")
    words = quote(str(status.get("message", "")))
    if reason == "PreRunningDeadlineExceeded":
        newest = latched.message if latched else words
        return Cause(Reason.START_DEADLINE_EXCEEDED, f"The pods did not start in time: {newest}")
    if reason in ("SubmissionFailed", "JobStatusCheckTimeoutExceeded"):
        return Cause(Reason.HEAD_LOST, f"KubeRay lost the head: {words}. The next attempt goes on from the checkpoint.")
    memory = causes.of_pods(pods)
    if memory is not None and memory.reason is Reason.OUT_OF_MEMORY:
        return memory
    return Cause(Reason.CONTAINER_FAILED, f"The training process failed: {words or 'it left no word'}")
