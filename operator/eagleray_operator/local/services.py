"""Does for RayServices what KubeRay does: all of them share the private Ray's one Serve, an application each."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import yaml

from eagleray_operator.api import names
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.local.mounts import Mounted, MountError, Mounts
from eagleray_operator.local.objects import Objects, cluster_name, pod_waits
from eagleray_operator.local.private_ray import LocalRayError
from eagleray_operator.local.ray_api import RayApi, application, main_prefix, revision_prefix
from eagleray_runtime.contract.names import SERVE_DEPLOYMENT


class LocalServices:
    """Carries RayServices out."""

    def __init__(self, cluster: MemoryCluster, ray: RayApi, mounts: Mounts, objects: Objects) -> None:
        self._cluster = cluster
        self._ray = ray
        self._mounts = mounts
        self._objects = objects
        self._mounted: dict[str, Mounted] = {}
        self._sent: str | None = None
        self._warming: asyncio.Task[tuple[int, Any]] | None = None
        self._refusal: str | None = None

    def close(self) -> None:
        """Leave a start of Serve that is still under way."""
        if self._warming is not None:
            self._warming.cancel()

    async def look(self) -> bool:
        """Bring every service one step further; whether some are under way."""
        services = [
            service for service in self._cluster.of_kind("RayService") if not service["metadata"].get("deletionTimestamp")
        ]
        services.sort(key=lambda service: (service["metadata"]["creationTimestamp"], service["metadata"]["name"]))
        for service in services:
            if "status" not in service:
                await self._objects.make_cluster(service, service["spec"]["rayClusterConfig"])
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
            if (problem := self._objects.too_much(cpus, gpus)) is not None:
                waiting[uid] = problem
            try:
                if uid not in self._mounted:
                    self._mounted[uid] = await self._mounts.make(uid, service["metadata"]["namespace"], template)
            except MountError as error:
                waiting[uid] = pod_waits(str(error), claim=error.claim)
                continue
            entry["args"] = {"config": str(self._mounted[uid].config)}
            if service["metadata"]["namespace"] != "default":
                entry["runtime_env"] = {"env_vars": dict(self._mounted[uid].environment)}
            entries[uid] = entry
        await self._send(entries)
        for uid in [uid for uid in self._mounted if uid not in entries]:
            self._mounted.pop(uid)
            self._mounts.remove(uid)
        return bool(services) and await self._follow(services, entries, waiting)

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

    async def _follow(
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
            busy |= await self._tell(service, found, endpoints, entries.get(uid), waiting.get(uid))
        return busy

    async def _tell(
        self, service: Manifest, found: Mapping[str, Any], routed: int, entry: Mapping[str, Any] | None, problem: Manifest | None
    ) -> bool:
        before = service.get("status") or {}
        cluster = (before.get("activeServiceStatus") or {}).get("rayClusterName") or cluster_name(service)
        deployments = found.get("deployments") or {}
        model = deployments.get(SERVE_DEPLOYMENT) or {}
        ready = sum(replica.get("state") == "RUNNING" for replica in model.get("replicas") or [])
        target = model.get("target_num_replicas")
        number = target if target is not None else (_replicas(entry) if entry else 1)
        await self._follow_replicas(service, cluster, number)
        spec = service["spec"]["rayClusterConfig"]
        group = spec["workerGroupSpecs"][0]
        await self._objects.show_pods(service, cluster, "head", spec["headGroupSpec"], 1, 1)
        await self._objects.show_pods(service, cluster, "worker", group, number, ready, problem)
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
        await self._objects.write_status(service, status)
        return found.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY") and serving < number

    async def _follow_replicas(self, service: Manifest, cluster: str, number: int) -> None:
        """Tell the number that Serve's autoscaler wants where Ray's autoscaler would."""
        live = await self._cluster.get(Ref("RayCluster", service["metadata"]["namespace"], cluster))
        if live is None or not live["spec"].get("enableInTreeAutoscaling"):
            return
        if live["spec"]["workerGroupSpecs"][0]["replicas"] != number:
            operation = {"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": number}
            await self._cluster.patch(Ref.of(live), [operation])


def _replicas(entry: Mapping[str, Any]) -> int:
    """Replicas that an application starts with."""
    deployment = entry["deployments"][0]
    scaling = deployment.get("autoscaling_config")
    return int(scaling["min_replicas"] if scaling else deployment.get("num_replicas", 1))
