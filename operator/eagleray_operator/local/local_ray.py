"""Does for RayJob and RayService objects what KubeRay does, on one private Ray.

It reads the objects from the cluster in memory and brings Ray to what they say, then Ray's state back into their status, in
KubeRay's words; so the reconcilers cannot tell the difference. All RayServices share one Ray Serve, an application each.
Pods are shown as objects without a process of their own, one for each replica.
"""

import asyncio
import contextlib
import json
import logging
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import yaml

from eagleray_operator.api import names
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import ClusterError, Manifest, Ref
from eagleray_operator.local.mounts import Mounted, MountError, Mounts
from eagleray_operator.local.private_ray import LocalRayError, RayAddresses, RayEndedError
from eagleray_runtime.contract.names import SERVE_DEPLOYMENT

logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.25
CALM_SECONDS = 1.0
"""How often Ray is asked while something is on its way, and while nothing is."""

SUBMIT_TRIES = 40
HOPELESS_SECONDS = 3.0
"""How long a job waits that this machine can never hold: long enough for its cause to be noted."""

GPU = "nvidia.com/gpu"
HEAD_READY = {"type": "HeadPodReady", "status": "True", "reason": "HeadPodRunningAndReady", "message": ""}
ENDED = ("Complete", "Failed")


class RayApi(Protocol):
    """What is needed of the private Ray."""

    serve_port: int

    @property
    def started(self) -> bool:
        """Whether it takes requests."""

    @property
    def addresses(self) -> RayAddresses:
        """Where it is, and what it counts."""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a REST call."""

    async def routed_replicas(self) -> dict[str, int] | None:
        """Replicas that HAProxy sends requests to, by application; None while it does not tell."""


def application(namespace: str, ray_service: str) -> str:
    """Name of the Serve application of a RayService."""
    return ray_service if namespace == "default" else f"{namespace}.{ray_service}"


def main_prefix(namespace: str, deployment: str) -> str:
    """Path under which a deployment answers."""
    return f"/{deployment}" if namespace == "default" else f"/{namespace}/{deployment}"


def revision_prefix(namespace: str, ray_service: str) -> str:
    """Path under which a revision without traffic answers."""
    return f"/.revisions/{application(namespace, ray_service)}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LocalRay:
    """Carries RayJobs and RayServices out."""

    def __init__(
        self,
        cluster: MemoryCluster,
        ray: RayApi,
        mounts: Mounts,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` counts seconds; by default it is the event loop's."""
        self._cluster = cluster
        self._ray = ray
        self._mounts = mounts
        self._clock = clock or asyncio.get_running_loop().time
        self._jobs_changed = asyncio.Event()
        self._services_changed = asyncio.Event()
        self._submitted: dict[str, str] = {}
        self._starts: dict[str, int] = {}
        self._hopeless_since: dict[str, float] = {}
        self._mounted: dict[str, Mounted] = {}
        self._sent: str | None = None
        self._warming: asyncio.Task[tuple[int, Any]] | None = None
        self._refusal: str | None = None
        cluster.watch(self._seen)

    def _seen(self, _event: str, manifest: Manifest) -> None:
        if manifest["kind"] == "RayJob":
            self._jobs_changed.set()
        elif manifest["kind"] in ("RayService", "Service", "ModelDeployment"):
            self._services_changed.set()

    async def run(self) -> None:
        """Work until cancelled; raises RayEndedError when Ray is gone."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._loop(self.look_at_jobs, self._jobs_changed))
                tasks.create_task(self._loop(self.look_at_services, self._services_changed))
        except* RayEndedError as group:
            raise group.exceptions[0] from None
        finally:
            if self._warming is not None:
                self._warming.cancel()

    async def _loop(self, look: Callable[[], Awaitable[bool]], changed: asyncio.Event) -> None:
        while True:
            changed.clear()
            try:
                busy = await look()
            except RayEndedError:
                raise
            except (LocalRayError, ClusterError) as error:
                # Whatever was not done is done the next time, which starts from what is there.
                logger.info("Not yet: %s", error)
                busy = True
            # Not asyncio.wait_for: in Python 3.11 it loses a cancellation that meets the event (python/cpython#86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUSY_SECONDS if busy else CALM_SECONDS):
                    await changed.wait()

    # Jobs

    async def look_at_jobs(self) -> bool:
        """Bring every job one step further; whether some are under way."""
        jobs = self._cluster.of_kind("RayJob")
        alive = {job["metadata"]["uid"] for job in jobs}
        for uid in [uid for uid in self._submitted if uid not in alive]:
            await self._stop_job(self._submitted[uid])
            self._submitted.pop(uid)
            self._mounts.remove(uid)
        busy = False
        for job in jobs:
            if (job.get("status") or {}).get("jobDeploymentStatus") not in ENDED:
                busy = True
                await self._step_job(job)
        return busy

    async def _step_job(self, job: Manifest) -> None:
        status = dict(job.get("status") or {})
        suspend = job["spec"].get("suspend", False)
        match status.get("jobDeploymentStatus", ""), suspend:
            case (("" | "Suspended"), True):
                await self._write(job, {"jobDeploymentStatus": "Suspended"})
            case (("" | "Suspended"), False):
                cluster = await self._make_cluster(job, job["spec"]["rayClusterSpec"])
                await self._write(
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
                await self._write(job, status | {"jobDeploymentStatus": "Suspending"})
            case "Initializing", False:
                await self._start_job(job, status)
            case "Running", True:
                await self._stop_job(status["jobId"])
                await self._write(job, status | {"jobDeploymentStatus": "Suspending"})
            case "Running", False:
                await self._follow_job(job, status)
            case "Suspending", _:
                if "jobId" not in status or await self._job_is_over(status["jobId"]):
                    self._submitted.pop(job["metadata"]["uid"], None)
                    await self._remove_cluster(job, status)
                    await self._write(job, {"jobDeploymentStatus": "Suspended"})

    async def _start_job(self, job: Manifest, status: dict[str, Any]) -> None:
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        if not self._ray.started:
            return
        cluster = job["spec"]["rayClusterSpec"]
        workers = (cluster.get("workerGroupSpecs") or [None])[0]
        groups = [("head", cluster["headGroupSpec"], 1)] + ([("worker", workers, workers["minReplicas"])] if workers else [])
        problem = self._too_much(
            sum(_cpus(group) * number for _, group, number in groups), sum(_gpus(group) * number for _, group, number in groups)
        )
        if problem is None:
            try:
                mounted = await self._mounts.make(uid, namespace, cluster["headGroupSpec"]["template"])
            except MountError as error:
                problem = _pod_waits(str(error), claim=error.claim)
        if problem is not None:
            await self._show_pods(job, status["rayClusterName"], "head", cluster["headGroupSpec"], 1, 0, problem)
            since = self._hopeless_since.setdefault(uid, self._clock())
            if self._clock() - since >= HOPELESS_SECONDS:
                ended = {
                    "jobDeploymentStatus": "Failed",
                    "reason": "PreRunningDeadlineExceeded",
                    "message": "The pods never started.",
                    "endTime": _now(),
                }
                await self._end_job(job, status | ended)
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
            await self._end_job(job, status | ended)
            return
        self._starts[uid] += 1
        self._submitted[uid] = submission
        for type_, group, number in groups:
            await self._show_pods(job, status["rayClusterName"], type_, group, number, number)
        await self._write(job, status | {"jobDeploymentStatus": "Running", "jobId": submission, "jobStatus": "PENDING"})

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
            await asyncio.sleep(BUSY_SECONDS)
        logger.warning("Ray refused job %s: %s", submission, answer)
        return False

    async def _follow_job(self, job: Manifest, status: dict[str, Any]) -> None:
        code, answer = await self._ray.call("GET", f"/api/jobs/{status['jobId']}")
        if code != 200 or not isinstance(answer, dict):
            return
        state = answer["status"]
        if state not in ("SUCCEEDED", "FAILED", "STOPPED"):
            await self._write(job, status | {"jobStatus": state})
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
        await self._end_job(job, status | ended)

    async def _end_job(self, job: Manifest, status: dict[str, Any]) -> None:
        await self._write(job, status)
        await self._remove_cluster(job, status)
        self._submitted.pop(job["metadata"]["uid"], None)
        self._mounts.remove(job["metadata"]["uid"])

    async def _stop_job(self, submission: str) -> None:
        await self._ray.call("POST", f"/api/jobs/{submission}/stop")

    async def _job_is_over(self, submission: str) -> bool:
        code, answer = await self._ray.call("GET", f"/api/jobs/{submission}")
        return code == 404 or (isinstance(answer, dict) and answer.get("status") in ("SUCCEEDED", "FAILED", "STOPPED"))

    # Services

    async def look_at_services(self) -> bool:
        """Bring every service one step further; whether some are under way."""
        services = [
            service for service in self._cluster.of_kind("RayService") if not service["metadata"].get("deletionTimestamp")
        ]
        services.sort(key=lambda service: (service["metadata"]["creationTimestamp"], service["metadata"]["name"]))
        for service in services:
            if "status" not in service:
                await self._make_cluster(service, service["spec"]["rayClusterConfig"])
        if not self._ray.started:
            return bool(services)
        if not services and self._sent is None:
            if self._warming is None and self._cluster.of_kind(names.MODEL_DEPLOYMENT):
                # Serve takes seconds to start; it may do so while the jobs still train.
                self._warming = asyncio.create_task(self._ray.call("PUT", "/api/serve/applications/", self._document([])))
            return False
        if self._warming is not None:
            await self._warming
            self._warming = None
        entries = {}
        waiting: dict[str, Manifest] = {}
        cpus = gpus = 0.0
        for service in services:
            uid = service["metadata"]["uid"]
            template = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
            entry = self._entry(service)
            number, options = _replicas(entry), entry["deployments"][0].get("ray_actor_options") or {}
            cpus += number * options.get("num_cpus", 1)
            gpus += number * options.get("num_gpus", 0)
            if (problem := self._too_much(cpus, gpus)) is not None:
                waiting[uid] = problem
            try:
                if uid not in self._mounted:
                    self._mounted[uid] = await self._mounts.make(uid, service["metadata"]["namespace"], template)
            except MountError as error:
                waiting[uid] = _pod_waits(str(error), claim=error.claim)
                continue
            entry["args"] = {"config": str(self._mounted[uid].config)}
            if service["metadata"]["namespace"] != "default":
                entry["runtime_env"] = {"env_vars": dict(self._mounted[uid].environment)}
            entries[uid] = entry
        await self._send(entries)
        for uid in [uid for uid in self._mounted if uid not in entries]:
            self._mounted.pop(uid)
            self._mounts.remove(uid)
        return bool(services) and await self._follow_services(services, entries, waiting)

    def _entry(self, service: Manifest) -> dict[str, Any]:
        """The application of a RayService, as the one Serve of this machine has it."""
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        entry: dict[str, Any] = dict(yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0])
        entry["name"] = application(namespace, name)
        entry["route_prefix"] = self._prefix(service)
        return entry

    def _prefix(self, service: Manifest) -> str:
        """The deployment's own path for the revision that its Service selects, another for every other one."""
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        deployment = service["metadata"]["labels"][names.LABEL_MODEL_DEPLOYMENT]
        for known in self._cluster.of_kind("Service"):
            if known["metadata"]["namespace"] == namespace and known["metadata"]["name"] == deployment:
                selected = known["spec"]["selector"].get(names.LABEL_REVISION)
                return main_prefix(namespace, deployment) if selected == name else revision_prefix(namespace, name)
        return revision_prefix(namespace, name)

    async def _send(self, entries: Mapping[str, dict[str, Any]]) -> None:
        """Give Serve the whole list of applications, if it is another than the one that it has."""
        document = self._document(sorted(entries.values(), key=lambda entry: str(entry["name"])))
        text = json.dumps(document, sort_keys=True)
        if text == self._sent:
            return
        status, answer = await self._ray.call("PUT", "/api/serve/applications/", document)
        if status >= 500:
            raise LocalRayError(f"Serve did not take its applications: {str(answer)[-500:]}")
        self._refusal = str(answer) if status >= 400 else None
        self._sent = text

    def _document(self, applications: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self._ray.serve_port},
            "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
            "applications": applications,
        }

    async def _follow_services(
        self, services: list[Manifest], entries: Mapping[str, dict[str, Any]], waiting: Mapping[str, Manifest]
    ) -> bool:
        code, answer = await self._ray.call("GET", "/api/serve/applications/")
        if code != 200 or not isinstance(answer, dict):
            raise LocalRayError(f"Serve does not tell its state: HTTP {code}")
        routed = await self._ray.routed_replicas()
        busy = False
        for service in services:
            uid = service["metadata"]["uid"]
            name = application(service["metadata"]["namespace"], service["metadata"]["name"])
            found = answer.get("applications", {}).get(name, {})
            endpoints = (service.get("status") or {}).get("numServeEndpoints", 0) if routed is None else routed.get(name, 0)
            busy |= await self._tell_service(service, found, endpoints, entries.get(uid), waiting.get(uid))
        return busy

    async def _tell_service(
        self, service: Manifest, found: Mapping[str, Any], routed: int, entry: Mapping[str, Any] | None, problem: Manifest | None
    ) -> bool:
        before = service.get("status") or {}
        cluster = (before.get("activeServiceStatus") or {}).get("rayClusterName") or _cluster_name(service)
        deployments = found.get("deployments") or {}
        model = deployments.get(SERVE_DEPLOYMENT) or {}
        ready = sum(replica.get("state") == "RUNNING" for replica in model.get("replicas") or [])
        target = model.get("target_num_replicas")
        number = target if target is not None else (_replicas(entry) if entry else 1)
        await self._follow_replicas(service, cluster, number)
        spec = service["spec"]["rayClusterConfig"]
        group = spec["workerGroupSpecs"][0]
        await self._show_pods(service, cluster, "head", spec["headGroupSpec"], 1, 1)
        await self._show_pods(service, cluster, "worker", group, number, ready, problem)
        serving = min(ready, routed)
        state = found.get("status", "DEPLOY_FAILED")
        if state == "RUNNING" and not serving:
            # Requests still go to Serve's slow stand-in.
            state = "DEPLOYING"
        applications: dict[str, Any] = {}
        if found or (self._refusal and entry):
            applications["model"] = {
                "status": state,
                "message": found.get("message") or self._refusal or "",
                "serveDeploymentStatuses": {
                    key: {"status": value.get("status", ""), "message": value.get("message") or ""}
                    for key, value in deployments.items()
                },
            }
        condition = {
            "type": "Ready",
            "status": "True" if serving else "False",
            "reason": "NonZeroServeEndpoints" if serving else "ZeroServeEndpoints",
            "message": "",
        }
        status = {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": [condition],
            "numServeEndpoints": serving,
            "activeServiceStatus": {"rayClusterName": cluster, "applicationStatuses": applications},
        }
        await self._write(service, status)
        return found.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY") and serving < number

    async def _follow_replicas(self, service: Manifest, cluster: str, number: int) -> None:
        """Tell the number that Serve's autoscaler wants where Ray's autoscaler would."""
        live = await self._cluster.get(Ref("RayCluster", service["metadata"]["namespace"], cluster))
        if live is None or not live["spec"].get("enableInTreeAutoscaling"):
            return
        if live["spec"]["workerGroupSpecs"][0]["replicas"] != number:
            operation = {"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": number}
            await self._cluster.patch(Ref.of(live), [operation])

    # Objects that KubeRay would make

    async def _make_cluster(self, owner: Manifest, spec: Manifest) -> str:
        name = _cluster_name(owner)
        ref = Ref("RayCluster", owner["metadata"]["namespace"], name)
        if await self._cluster.get(ref) is None:
            await self._cluster.create(
                {
                    "apiVersion": "ray.io/v1",
                    "kind": "RayCluster",
                    "metadata": {
                        "name": name,
                        "namespace": ref.namespace,
                        "labels": dict(owner["metadata"].get("labels") or {}),
                        "ownerReferences": [_owner(owner)],
                    },
                    "spec": spec,
                }
            )
            live = await self._cluster.get(ref)
            if live is not None:
                await self._cluster.write_status(live, {"state": "ready", "conditions": [HEAD_READY]})
        return name

    async def _remove_cluster(self, owner: Manifest, status: Mapping[str, Any]) -> None:
        ref = Ref("RayCluster", owner["metadata"]["namespace"], status.get("rayClusterName", _cluster_name(owner)))
        live = await self._cluster.get(ref)
        if live is not None:
            await self._cluster.delete(ref, live["metadata"]["uid"])

    async def _show_pods(
        self, owner: Manifest, cluster: str, type_: str, group: Manifest, number: int, ready: int, problem: Manifest | None = None
    ) -> None:
        """Have `number` pods of that type, the first `ready` of them ready; the others tell the problem, if there is one."""
        namespace = owner["metadata"]["namespace"]
        live = await self._cluster.get(Ref("RayCluster", namespace, cluster))
        if live is None:
            return
        uid = live["metadata"]["uid"]
        prefix = f"{cluster}-{type_}-"
        known = {
            pod["metadata"]["name"]: pod
            for pod in self._cluster.of_kind("Pod")
            if pod["metadata"]["namespace"] == namespace
            and any(reference["uid"] == uid for reference in pod["metadata"]["ownerReferences"])
            and pod["metadata"]["labels"]["ray.io/node-type"] == type_
        }
        wanted = [f"{prefix}{index}" for index in range(number)]
        for name, pod in known.items():
            if name not in wanted:
                await self._cluster.delete(Ref.of(pod), pod["metadata"]["uid"])
        labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": type_, "ray.io/cluster": cluster}
        for index, name in enumerate(wanted):
            if name not in known:
                await self._cluster.create(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [_owner(live)]},
                        "spec": {},
                    }
                )
            pod_or_none = await self._cluster.get(Ref("Pod", namespace, name))
            if pod_or_none is not None:
                await self._cluster.write_status(pod_or_none, _pod_status(index < ready, problem))

    async def _write(self, resource: Manifest, status: Mapping[str, Any]) -> None:
        live = await self._cluster.get(Ref.of(resource))
        if live is not None and live["metadata"]["uid"] == resource["metadata"]["uid"] and live.get("status") != status:
            await self._cluster.write_status(live, status)

    def _too_much(self, cpus: float, gpus: float) -> Manifest | None:
        """What a pod says that does not fit on this machine."""
        here = self._ray.addresses
        if cpus <= here.cpus and gpus <= here.gpus:
            return None
        words = f"needs {cpus:g} CPUs and {gpus:g} GPUs in all; the Ray of this machine counts {here.cpus:g} and {here.gpus:g}"
        return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}


def _cluster_name(owner: Manifest) -> str:
    return f"{owner['metadata']['name']}-local"


def _owner(manifest: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
        "uid": manifest["metadata"]["uid"],
        "controller": True,
    }


def _cpus(group: Manifest) -> float:
    return float(group.get("rayStartParams", {}).get("num-cpus", 0))


def _gpus(group: Manifest) -> float:
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return float(limits.get(GPU, 0))


def _replicas(entry: Mapping[str, Any]) -> int:
    """Replicas that an application starts with."""
    deployment = entry["deployments"][0]
    scaling = deployment.get("autoscaling_config")
    return int(scaling["min_replicas"] if scaling else deployment.get("num_replicas", 1))


def _pod_waits(words: str, *, claim: bool) -> Manifest:
    if claim:
        return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    return {"containerStatuses": [{"name": "ray", "state": waiting}]}


def _pod_status(ready: bool, problem: Manifest | None) -> Manifest:
    if ready:
        return {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    status: Manifest = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    if problem is not None:
        conditions = [*status["conditions"], *problem.get("conditions", [])]
        status = {**status, **problem, "conditions": conditions}
    return status
