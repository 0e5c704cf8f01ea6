"""Stands in for KubeRay, Ray and the kubelet on a real apiserver: moves statuses, makes clusters and pods, trains, answers.

Nothing here looks at the operator but what is in the apiserver, its reports endpoint, and the requests of its probe.
"""

import asyncio
import itertools
import json
import random
import string
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from eagleray_operator.api import names
from eagleray_operator.cluster.port import Ref
from eagleray_runtime.contract.names import REPORT_AUDIENCE
from eagleray_runtime.contract.reports import FailureReason
from tests.faults.api import Api, ApiError, Manifest
from tests.faults.world import World

DIGEST = "sha256:" + "a" * 64
EPOCHS = 3
RAY = "ray.io/v1"
MOST_WORKERS = 5
"""As if there were no room for more: a spec may ask for thousands."""

FINALIZER = "ray.io/rayjob-finalizer"
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass
class Script:
    """What becomes of the jobs of a namespace: an outcome for each attempt, the last one for all that follow."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)
    """By job: `succeed`, `crash`, `lose the head`, `refuse the data`, `wait`."""

    def outcome(self, job: str, attempt: int) -> str:
        told = self.outcomes.get(job, ["succeed"])
        return told[min(attempt, len(told)) - 1]


class KubeRay:
    """One for the whole cluster."""

    def __init__(self, api: Api, world: World, reports: Callable[[], list[str]]) -> None:
        """`reports` are the addresses of the reports endpoints of the operators that run now."""
        self.scripts: dict[str, Script] = defaultdict(Script)
        self.submissions: list[tuple[Ref, str]] = []
        """RayJobs, with their UIDs, whose driver was started."""
        self._api = api
        self._world = world
        self._reports = reports
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[str] = set()
        self._scaling: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        world.listen(self._seen)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _seen(self, type_: str, manifest: Manifest) -> None:
        kind, uid = manifest["kind"], manifest["metadata"]["uid"]
        if kind not in ("RayJob", "RayService", "RayCluster"):
            return
        if type_ == "DELETED":
            if (task := self._at_work.pop(uid, None)) is not None:
                task.cancel()
            return
        if kind == "RayCluster":
            if type_ == "MODIFIED":
                self._spawn(self._scale(manifest))
        elif uid not in self._at_work:
            self._at_work[uid] = self._spawn(self._job(manifest) if kind == "RayJob" else self._service(manifest))
        elif kind == "RayJob" and manifest["metadata"].get("deletionTimestamp"):
            if uid not in self._leaving:
                self._leaving.add(uid)
                self._at_work[uid].cancel()
                self._at_work[uid] = self._spawn(self._let_go(manifest))
        elif kind == "RayJob":
            self._suspend_or_resume(manifest)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        async def guarded() -> None:
            try:
                await work
            except ApiError as error:
                # Objects that are deleted meanwhile are no concern of whoever works on them.
                if error.status not in (404, 409, 422):
                    raise

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Jobs

    async def _job(self, ray_job: Manifest) -> None:
        ref, uid = Ref.of(ray_job), ray_job["metadata"]["uid"]
        if (ray_job.get("status") or {}).get("jobDeploymentStatus") or ray_job["spec"].get("suspend"):
            return
        await self._run(ref, uid, ray_job)

    async def _let_go(self, ray_job: Manifest) -> None:
        """Stop a job that is at work, for which KubeRay 1.6 needs its cluster's token; before that nothing goes.

        rayjob_controller.go: there is a client for the dashboard if the Secret is there, or if the cluster is gone.
        """
        ref, status = Ref.of(ray_job), ray_job.get("status") or {}
        secret = Ref("Secret", ref.namespace, ray_job["spec"]["rayClusterSpec"]["authOptions"]["secretName"])
        cluster = Ref("RayCluster", ref.namespace, status.get("rayClusterName", ""))
        if status.get("jobStatus") not in TERMINAL:
            while secret not in self._world.objects and cluster in self._world.objects:  # noqa: ASYNC110
                await asyncio.sleep(0.3)
        while (live := self._world.objects.get(ref)) is not None and live["metadata"]["uid"] == ray_job["metadata"]["uid"]:
            left = [finalizer for finalizer in live["metadata"].get("finalizers") or [] if finalizer != FINALIZER]
            try:
                await self._api.merge(ref, {"metadata": {"uid": live["metadata"]["uid"], "finalizers": left}})
                return
            except ApiError as error:
                # The garbage collector has taken its own finalizer away meanwhile, which may not be put back.
                if error.status not in (409, 422):
                    raise
                await asyncio.sleep(0.3)

    async def _run(self, ref: Ref, uid: str, ray_job: Manifest) -> None:
        await self._api.merge(ref, {"metadata": {"uid": uid, "finalizers": [FINALIZER]}})
        # First the name: whoever comes next, however this ends, knows of the cluster.
        name = _new_name(ref.name)
        await self._api.set_status(ref, uid, {"jobDeploymentStatus": "Initializing", "rayClusterName": name})
        cluster = await self._cluster(ray_job, ray_job["spec"]["rayClusterSpec"], name)
        head = await self._pod(cluster, "head")
        await self._api.set_status(ref, uid, {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "jobId": ref.name})
        self.submissions.append((ref, uid))
        job = ray_job["metadata"]["labels"][names.LABEL_TRAINING_JOB]
        attempt = int(ray_job["metadata"]["labels"][names.LABEL_ATTEMPT])
        outcome = self.scripts[ref.namespace].outcome(job, attempt)
        end: dict[str, Any] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
        if outcome == "wait":
            return
        if outcome == "lose the head":
            await self._api.delete(Ref.of(head), uid=head["metadata"]["uid"])
            conditions = [
                {
                    "type": "HeadPodReady",
                    "status": "False",
                    "reason": "HeadPodNotFound",
                    "message": "Head Pod not found",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ]
            await self._api.set_status(Ref.of(cluster), cluster["metadata"]["uid"], {"conditions": conditions})
            return
        if outcome == "crash":
            end = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "it crashed"}
        elif outcome == "refuse the data":
            await self._report(
                head, ray_job, {"type": "failure", "reason": str(FailureReason.DATA_INVALID), "message": "no rows"}
            )
            end = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "no rows"}
        else:
            for epoch in range(1, EPOCHS + 1):
                await self._report(head, ray_job, _progress(epoch, "Training"))
                await asyncio.sleep(0.1)
            await self._report(head, ray_job, _result(job))
        await self._api.set_status(ref, uid, end)
        await self._api.delete(Ref.of(cluster), uid=cluster["metadata"]["uid"])

    def _suspend_or_resume(self, ray_job: Manifest) -> None:
        status = (ray_job.get("status") or {}).get("jobDeploymentStatus", "")
        uid = ray_job["metadata"]["uid"]
        if ray_job["spec"].get("suspend") and status in ("Initializing", "Running"):
            self._at_work[uid].cancel()
            self._at_work[uid] = self._spawn(self._suspend(ray_job))
        elif not ray_job["spec"].get("suspend") and status == "Suspended" and self._at_work[uid].done():
            self._at_work[uid] = self._spawn(self._run(Ref.of(ray_job), uid, ray_job))

    async def _suspend(self, ray_job: Manifest) -> None:
        ref, uid = Ref.of(ray_job), ray_job["metadata"]["uid"]
        # Its creation may still be under way.
        await asyncio.sleep(0.5)
        await self._api.delete(Ref("RayCluster", ref.namespace, ray_job["status"]["rayClusterName"]))
        await self._api.set_status(ref, uid, {"jobDeploymentStatus": "Suspended", "jobStatus": "", "rayClusterName": ""})

    async def _report(self, head: Manifest, ray_job: Manifest, told: Manifest) -> None:
        """As the runtime does: again and again until it is taken, or there is nobody left to take it."""
        assert self._session is not None
        config = self._world.get("ConfigMap", *_config_of(ray_job))
        if config is None:
            return
        resource = json.loads(next(iter(config["data"].values())))["resource"]
        attempt = int(ray_job["metadata"]["labels"][names.LABEL_ATTEMPT])
        body: dict[str, Any] = told | {"resource": resource, "attempt": attempt}
        if told["type"] == "result":
            body["progress"] = _progress(EPOCHS, "Saving") | {"resource": resource, "attempt": attempt}
        namespace, name = head["metadata"]["namespace"], head["metadata"]["name"]
        token = await self._api.token(namespace, name, head["metadata"]["uid"], REPORT_AUDIENCE)
        for turn in itertools.count():
            addresses = self._reports()
            if addresses:
                url = addresses[turn % len(addresses)]
                try:
                    headers = {"Authorization": f"Bearer {token}"}
                    async with self._session.post(url, json=body, headers=headers) as answer:
                        if answer.status in (200, 202, 404, 409, 422):
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                if told["type"] == "progress" and turn >= 2:
                    return
            await asyncio.sleep(0.3)

    # Services

    async def _service(self, service: Manifest) -> None:
        ref, uid = Ref.of(service), service["metadata"]["uid"]
        if service.get("status"):
            return
        name = _new_name(ref.name)
        cluster = await self._cluster(service, service["spec"]["rayClusterConfig"], name)
        await self._pod(cluster, "head")
        await self._scale(cluster)
        status, message = ("DEPLOY_FAILED", "ValueError: no such model") if self._is_bad(service) else ("RUNNING", "")
        deployments = {"Replica": {"status": "HEALTHY" if status == "RUNNING" else "UNHEALTHY", "message": message}}
        told = {
            "rayClusterName": name,
            "applicationStatuses": {"model": {"status": status, "message": "", "serveDeploymentStatuses": deployments}},
        }
        ready = "True" if status == "RUNNING" else "False"
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "NonZeroServeEndpoints" if ready == "True" else "Initializing",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        side = "activeServiceStatus" if ready == "True" else "pendingServiceStatus"
        await self._api.set_status(ref, uid, {side: told, "conditions": [condition]})

    def _is_bad(self, service: Manifest) -> bool:
        return "bad" in str(self.config_of(service).get("model", ""))

    def config_of(self, service: Manifest) -> Manifest:
        """What the replicas of a RayService read."""
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        config = self._world.get("ConfigMap", namespace, f"{name}-config")
        found: Manifest = json.loads(next(iter(config["data"].values()))) if config else {}
        return found

    async def _scale(self, cluster: Manifest) -> None:
        """As many workers as the cluster asks for by now; one look at a time, else an older one would undo a newer."""
        async with self._scaling[cluster["metadata"]["uid"]]:
            await self._scale_to(self._world.objects.get(Ref.of(cluster), cluster))

    async def _scale_to(self, cluster: Manifest) -> None:
        for group in cluster["spec"].get("workerGroupSpecs") or []:
            wanted = min(MOST_WORKERS, int(group.get("replicas") or group.get("minReplicas") or 0))
            for number in range(wanted):
                await self._pod(cluster, "worker", number)
            for number in range(wanted, MOST_WORKERS):
                # By its name: one that was made a moment ago no watch may have told of yet.
                await self._api.delete(Ref("Pod", cluster["metadata"]["namespace"], _pod_name(cluster, "worker", number)))

    # Clusters and pods

    async def _cluster(self, owner: Manifest, spec: Manifest, name: str) -> Manifest:
        metadata = {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": owner["metadata"]["labels"],
            "ownerReferences": [_reference(owner)],
        }
        made = await self._api.create({"apiVersion": RAY, "kind": "RayCluster", "metadata": metadata, "spec": spec})
        conditions = [
            {
                "type": "HeadPodReady",
                "status": "True",
                "reason": "HeadPodRunningAndReady",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ]
        return await self._api.set_status(Ref.of(made), made["metadata"]["uid"], {"conditions": conditions})

    async def _pod(self, cluster: Manifest, node: str, number: int = 0) -> Manifest:
        namespace, name = cluster["metadata"]["namespace"], _pod_name(cluster, node, number)
        if (known := self._world.get("Pod", namespace, name)) is not None:
            return known
        labels = cluster["metadata"]["labels"] | {"ray.io/node-type": node, "number": str(number)}
        metadata = {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [_reference(cluster)]}
        spec = {"containers": [{"name": "ray", "image": "ray"}], "automountServiceAccountToken": False}
        try:
            made = await self._api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        except ApiError as error:
            if error.status == 409:
                return await self._api.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
            raise
        return await self._start(made, cluster["spec"]["authOptions"]["secretName"])

    async def _start(self, pod: Manifest, secret: str) -> Manifest:
        """What the kubelet does: no container starts without the Secret that its environment names."""
        ref, uid = Ref.of(pod), pod["metadata"]["uid"]
        while Ref("Secret", ref.namespace, secret) not in self._world.objects:
            waiting = {"reason": "CreateContainerConfigError", "message": f'secret "{secret}" not found'}
            container = {"name": "ray", "image": "ray", "imageID": "", "ready": False, "restartCount": 0}
            await self._api.set_status(
                ref, uid, {"phase": "Pending", "containerStatuses": [container | {"state": {"waiting": waiting}}]}
            )
            await asyncio.sleep(0.3)
        ready = {"type": "Ready", "status": "True"}
        return await self._api.set_status(ref, uid, {"phase": "Running", "conditions": [ready], "containerStatuses": None})


class Models:
    """Answers for the deployments: whoever asks through the Service gets the revision that it selects."""

    def __init__(self, world: World, kuberay: KubeRay) -> None:
        self._world = world
        self._kuberay = kuberay
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        application = web.Application()
        application.router.add_get("/{namespace}/{deployment}/{revision}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        namespace, deployment, revision = (request.match_info[part] for part in ("namespace", "deployment", "revision"))
        if "active" in request.query:
            service = self._world.get("Service", namespace, deployment) or {}
            revision = service.get("spec", {}).get("selector", {}).get(names.LABEL_REVISION, "")
        ray_service = self._world.get("RayService", namespace, revision)
        conditions = ((ray_service or {}).get("status") or {}).get("conditions") or []
        if ray_service is None or not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return web.json_response({"ready": False, "message": f"{revision} does not answer"})
        digest = self._kuberay.config_of(ray_service).get("digest") or DIGEST
        return web.json_response({"ready": True, "digest": digest, "engine": "NumPy"})


def _new_name(owner: str) -> str:
    return f"{owner}-{''.join(random.choices(string.ascii_lowercase, k=5))}"  # noqa: S311


def _pod_name(cluster: Manifest, node: str, number: int) -> str:
    return f"{cluster['metadata']['name']}-{node}-{number}"


def _reference(owner: Manifest) -> Manifest:
    metadata = owner["metadata"]
    return {"apiVersion": RAY, "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _config_of(ray_job: Manifest) -> tuple[str, str]:
    return ray_job["metadata"]["namespace"], f"{ray_job['metadata']['name']}-config"


def _progress(epoch: int, stage: str) -> Manifest:
    percent = 100.0 * epoch / EPOCHS
    return {"type": "progress", "stage": stage, "epoch": epoch, "epochs": EPOCHS, "percent": percent, "workers": 1}


def _result(job: str) -> Manifest:
    model = {"uri": f"s3://models/trained/{job}", "digest": DIGEST, "sizeBytes": 10, "parameters": 2, "engine": "NumPy"}
    data = {"rows": 100, "training": 80, "validation": 10, "test": 10}
    return {"type": "result", "model": model, "data": data, "metrics": [{"name": "R2", "part": "Test", "value": 0.9}]}
