"""Does for RayJobs what KubeRay does: a Ray job of the private Ray for each."""

import asyncio
import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest
from eagleray_operator.local.mounts import MountError, Mounts
from eagleray_operator.local.objects import Objects, pod_waits
from eagleray_operator.local.ray_api import RayApi

logger = logging.getLogger(__name__)

SUBMIT_TRIES = 40
SUBMIT_PAUSE_SECONDS = 0.25
HOPELESS_SECONDS = 3.0
"""How long a job waits that this machine can never hold: long enough for its cause to be noted."""

GPU = "nvidia.com/gpu"
ENDED = ("Complete", "Failed")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LocalJobs:
    """Carries RayJobs out."""

    def __init__(self, cluster: MemoryCluster, ray: RayApi, mounts: Mounts, objects: Objects, clock: Callable[[], float]) -> None:
        """`clock` counts seconds."""
        self._cluster = cluster
        self._ray = ray
        self._mounts = mounts
        self._objects = objects
        self._clock = clock
        self._submitted: dict[str, str] = {}
        self._starts: dict[str, int] = {}
        self._hopeless_since: dict[str, float] = {}

    async def look(self) -> bool:
        """Bring every job one step further; whether some are under way."""
        jobs = self._cluster.of_kind("RayJob")
        alive = {job["metadata"]["uid"] for job in jobs}
        for uid in [uid for uid in self._submitted if uid not in alive]:
            await self._stop(self._submitted[uid])
            self._submitted.pop(uid)
            self._mounts.remove(uid)
        busy = False
        for job in jobs:
            if (job.get("status") or {}).get("jobDeploymentStatus") not in ENDED:
                busy = True
                await self._step(job)
        return busy

    async def _step(self, job: Manifest) -> None:
        status = dict(job.get("status") or {})
        suspend = job["spec"].get("suspend", False)
        match status.get("jobDeploymentStatus", ""), suspend:
            case (("" | "Suspended"), True):
                await self._objects.write_status(job, {"jobDeploymentStatus": "Suspended"})
            case (("" | "Suspended"), False):
                cluster = await self._objects.make_cluster(job, job["spec"]["rayClusterSpec"])
                await self._objects.write_status(
                    job,
                    {
                        "jobDeploymentStatus": "Initializing",
                        "rayClusterName": cluster,
                        "startTime": _now(),
                        "failed": 0,
                        "succeeded": 0,
                    },
                )
            case "Initializing", True:
                await self._objects.write_status(job, status | {"jobDeploymentStatus": "Suspending"})
            case "Initializing", False:
                await self._start(job, status)
            case "Running", True:
                await self._stop(status["jobId"])
                await self._objects.write_status(job, status | {"jobDeploymentStatus": "Suspending"})
            case "Running", False:
                await self._follow(job, status)
            case "Suspending", _:
                if "jobId" not in status or await self._is_over(status["jobId"]):
                    self._submitted.pop(job["metadata"]["uid"], None)
                    await self._objects.remove_cluster(job, status)
                    await self._objects.write_status(job, {"jobDeploymentStatus": "Suspended"})

    async def _start(self, job: Manifest, status: dict[str, Any]) -> None:
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        if not self._ray.started:
            return
        cluster = job["spec"]["rayClusterSpec"]
        workers = (cluster.get("workerGroupSpecs") or [None])[0]
        groups = [("head", cluster["headGroupSpec"], 1)] + ([("worker", workers, workers["minReplicas"])] if workers else [])
        problem = self._objects.too_much(
            sum(_cpus(group) * number for _, group, number in groups), sum(_gpus(group) * number for _, group, number in groups)
        )
        if problem is None:
            try:
                mounted = await self._mounts.make(uid, namespace, cluster["headGroupSpec"]["template"])
            except MountError as error:
                problem = pod_waits(str(error), claim=error.claim)
        if problem is not None:
            await self._objects.show_pods(job, status["rayClusterName"], "head", cluster["headGroupSpec"], 1, 0, problem)
            since = self._hopeless_since.setdefault(uid, self._clock())
            if self._clock() - since >= HOPELESS_SECONDS:
                ended = {
                    "jobDeploymentStatus": "Failed",
                    "reason": "PreRunningDeadlineExceeded",
                    "message": "The pods never started.",
                    "endTime": _now(),
                }
                await self._end(job, status | ended)
            return
        self._starts.setdefault(uid, 0)
        submission = f"{namespace}-{job['metadata']['name']}-{uid[:8]}-{self._starts[uid] + 1}"
        # Left to itself, Ray gives the process the address of any Ray that it finds on this machine, pods included.
        environment = {**mounted.environment, "RAY_ADDRESS": self._ray.addresses.gcs}
        if not await self._submit(submission, job["spec"]["entrypoint"], environment):
            ended = {
                "jobDeploymentStatus": "Failed",
                "reason": "SubmissionFailed",
                "message": f"Ray did not take the job {submission}.",
                "endTime": _now(),
            }
            await self._end(job, status | ended)
            return
        self._starts[uid] += 1
        self._submitted[uid] = submission
        for type_, group, number in groups:
            await self._objects.show_pods(job, status["rayClusterName"], type_, group, number, number)
        await self._objects.write_status(
            job, status | {"jobDeploymentStatus": "Running", "jobId": submission, "jobStatus": "PENDING"}
        )

    async def _submit(self, submission: str, entrypoint: str, environment: Mapping[str, str]) -> bool:
        """Whether Ray took the job.

        Its variables go with the command: Ray starts a job with a runtime environment of its own seconds later.
        """
        words = shlex.split(entrypoint)
        command = [sys.executable, *words[1:]] if words[0] == "python" else words
        line = " ".join(
            [*(f"{key}={shlex.quote(value)}" for key, value in sorted(environment.items())), "exec", shlex.join(command)]
        )
        for _ in range(SUBMIT_TRIES):
            status, answer = await self._ray.call("POST", "/api/jobs/", {"entrypoint": line, "submission_id": submission})
            if (status == 200 and isinstance(answer, dict)) or "already exists" in str(answer):
                return True
            # The first requests after the start are not always understood.
            await asyncio.sleep(SUBMIT_PAUSE_SECONDS)
        logger.warning("Ray refused job %s: %s", submission, answer)
        return False

    async def _follow(self, job: Manifest, status: dict[str, Any]) -> None:
        code, answer = await self._ray.call("GET", f"/api/jobs/{status['jobId']}")
        if code != 200 or not isinstance(answer, dict):
            return
        state = answer["status"]
        if state not in ("SUCCEEDED", "FAILED", "STOPPED"):
            await self._objects.write_status(job, status | {"jobStatus": state})
            return
        ended: dict[str, Any] = {
            "jobStatus": state,
            "endTime": _now(),
            "jobDeploymentStatus": "Complete",
            "message": answer.get("message") or "",
        }
        if state == "FAILED":
            ended |= {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "failed": 1}
        elif state == "SUCCEEDED":
            ended["succeeded"] = 1
        await self._end(job, status | ended)

    async def _end(self, job: Manifest, status: dict[str, Any]) -> None:
        await self._objects.write_status(job, status)
        await self._objects.remove_cluster(job, status)
        self._submitted.pop(job["metadata"]["uid"], None)
        self._mounts.remove(job["metadata"]["uid"])

    async def _stop(self, submission: str) -> None:
        await self._ray.call("POST", f"/api/jobs/{submission}/stop")

    async def _is_over(self, submission: str) -> bool:
        code, answer = await self._ray.call("GET", f"/api/jobs/{submission}")
        return code == 404 or (isinstance(answer, dict) and answer.get("status") in ("SUCCEEDED", "FAILED", "STOPPED"))


def _cpus(group: Manifest) -> float:
    return float(group.get("rayStartParams", {}).get("num-cpus", 0))


def _gpus(group: Manifest) -> float:
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return float(limits.get(GPU, 0))
