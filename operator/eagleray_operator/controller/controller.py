"""The loop: events wake keys, each key is reconciled from what is known now."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from eagleray_operator.api import names
from eagleray_operator.api.common import Metadata
from eagleray_operator.api.conditions import ConditionType
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.reasons import Reason
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.port import Addresses, Cluster, ClusterError, Manifest, Ref
from eagleray_operator.controller.cache import Cache, owners
from eagleray_operator.controller.executor import ConflictError, Executor, RefusedError
from eagleray_operator.controller.inbox import Inbox
from eagleray_operator.controller.observer import Observer
from eagleray_operator.controller.queue import WorkQueue
from eagleray_operator.metrics import Metrics
from eagleray_operator.reconcilers import modeldeployment, trainingjob
from eagleray_operator.reconcilers.invalid import invalid_status
from eagleray_operator.reconcilers.plan import Observed, Plan
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.reports import ProgressReport, Report

logger = logging.getLogger(__name__)

RESOURCES: dict[str, type[TrainingJob] | type[ModelDeployment]] = {
    names.TRAINING_JOB: TrainingJob,
    names.MODEL_DEPLOYMENT: ModelDeployment,
}
WATCHED = (
    *RESOURCES,
    "RayJob",
    "RayService",
    "RayCluster",
    "Pod",
    "ConfigMap",
    "Service",
    "PersistentVolumeClaim",
    "NetworkPolicy",
)
"""Kinds that the cache holds; Secrets are never read."""


def now_utc() -> datetime:
    """This moment in whole seconds, as Kubernetes writes times."""
    return datetime.now(UTC).replace(microsecond=0)


class Controller:
    """Reconciles TrainingJobs and ModelDeployments."""

    def __init__(
        self,
        cluster: Cluster,
        addresses: Addresses,
        settings: Settings,
        *,
        key: bytes,
        metrics: Metrics | None = None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        """`key` is the operator's own, from which Ray's tokens are derived."""
        self.cache = Cache()
        self._cluster = cluster
        self._settings = settings
        self._key = key
        self._metrics = metrics
        self._clock = clock
        self._queue = WorkQueue()
        self._inbox = Inbox(settings.progress_interval_seconds)
        self._executor = Executor(cluster, self.cache)
        self._observer = Observer(cluster, addresses, self.cache)
        self._primed = False

    def observe(self, event_type: str | None, manifest: Manifest) -> None:
        """Take in an event of a watch: ADDED, MODIFIED, DELETED or None for an object of a first listing."""
        changed = self.cache.remove(manifest) if event_type == "DELETED" else self.cache.put(manifest)
        if changed:
            self._wake(manifest)
        if event_type == "DELETED" and manifest["kind"] in RESOURCES:
            self._observer.forget(manifest["metadata"]["uid"])
            self._inbox.forget(Ref.of(manifest))

    async def run(self) -> None:
        """Reconcile until cancelled; everything is listed first, so that no decision rests on a part of the picture."""
        while not await self._swept():  # noqa: ASYNC110
            await asyncio.sleep(1)
        self._primed = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_often())
            for _ in range(self._settings.workers):
                tasks.create_task(self._work())

    async def submit(self, report: Report) -> int:
        """Take in a report; returns the HTTP status to answer with, after the status write for results and failures."""
        if not self._primed:
            return 503
        identity = report.resource
        ref = Ref(identity.kind, identity.namespace, identity.name)
        manifest = self.cache.get(ref)
        if manifest is None or manifest["metadata"]["uid"] != identity.uid:
            return 404
        attempts = (manifest.get("status") or {}).get("attempts") or []
        newest = attempts[-1]["number"] if attempts else 0
        if report.attempt < newest:
            return 409
        if report.attempt > newest:
            # The attempt's own beginning is not in the status yet; a report could not be told to belong to it.
            return 503
        if attempts[-1].get("endTime"):
            return 200 if attempts[-1].get("reason") == Reason.COMPLETED else 409
        if isinstance(report, ProgressReport):
            delay = self._inbox.put(ref, report)
            self._queue.add_after(ref, delay)
            return 202
        written = self._inbox.put_and_wait(ref, report)
        self._queue.add(ref)
        try:
            async with asyncio.timeout(20):
                await written
        except TimeoutError:
            return 503
        return 200

    async def sweep(self) -> None:
        """List everything once: objects that a watch missed come, those whose deletion it missed go."""
        for kind in WATCHED:
            before = self.cache.refs(kind)
            # The objects of a kind that is no longer served are gone with it.
            listed = await self._cluster.list_all(kind) if await self._cluster.serves(kind) else []
            for manifest in listed:
                self.observe(None, manifest)
            for ref in before - {Ref.of(manifest) for manifest in listed}:
                if (gone := self.cache.get(ref)) is not None:
                    self.observe("DELETED", gone)
        for kind in RESOURCES:
            for ref in self.cache.refs(kind):
                self._queue.add(ref)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            await self._swept()

    async def _swept(self) -> bool:
        try:
            await self.sweep()
        except ClusterError as error:
            logger.warning("A sweep was not answered (%s); the next one makes up for it.", error.message)
            return False
        return True

    def _wake(self, manifest: Manifest) -> None:
        """Queue the resources that an object concerns: itself, its owner by label, and those that refer to it."""
        metadata = manifest["metadata"]
        kind = manifest["kind"]
        namespace = metadata["namespace"]
        if kind in RESOURCES:
            self._queue.add(Ref.of(manifest))
        labels = metadata.get("labels") or {}
        for owner_kind, label in names.RESOURCE_LABEL.items():
            if label in labels:
                self._queue.add(Ref(owner_kind, namespace, labels[label]))
        for owner in metadata.get("ownerReferences") or []:
            if owner["kind"] in RESOURCES:
                self._queue.add(Ref(owner["kind"], namespace, owner["name"]))
        if kind == names.TRAINING_JOB:
            for ref in self.cache.refs(names.MODEL_DEPLOYMENT):
                follows = ((self.cache.get(ref) or {}).get("spec") or {}).get("model", {}).get("trainingJobRef")
                if ref.namespace == namespace and follows and follows.get("name") == metadata["name"]:
                    self._queue.add(ref)

    async def _work(self) -> None:
        while True:
            key, waited = await self._queue.get()
            started = time.monotonic()
            result = "error"
            try:
                await self._reconcile(key)
                result = "success"
                self._queue.succeeded(key)
            except ClusterError as error:
                # A 409 only says that the cache is behind; the watch brings what we have not seen.
                result = "conflict" if error.status == 409 else "error"
                delay = self._queue.retry(key, error.retry_after or 0.0)
                level = logging.INFO if error.status == 409 else logging.WARNING
                logger.log(level, "%s %s/%s: %s (%s); again in %.1f s", *key, error.message, error.status, delay)
            except (ConflictError, RefusedError) as error:
                # The user's to mend, and told in the status: no error of ours.
                result = "success"
                delay = self._queue.retry(key)
                logger.info("%s %s/%s: %s; again in %.1f s", *key, error, delay)
            except Exception:
                # One resource that cannot be reconciled must not end the others' work.
                delay = self._queue.retry(key)
                logger.exception("%s %s/%s could not be reconciled; again in %.1f s", *key, delay)
            finally:
                self._queue.done(key)
                if self._metrics is not None:
                    self._metrics.reconciled(key.kind, result, time.monotonic() - started)
                    self._metrics.waited(waited)
                    self._metrics.queue(len(self._queue))

    async def _reconcile(self, key: Ref) -> None:
        manifest = self.cache.get(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return
        try:
            resource = RESOURCES[key.kind].model_validate(manifest)
        except ValidationError as error:
            metadata = Metadata.model_validate(manifest["metadata"])
            status = invalid_status(key.kind, metadata, manifest.get("status") or {}, error, self._clock())
            await self._executor.write_status(manifest, Plan(status=status))
            return
        taken = self._inbox.take(key)
        observed = await self._observer.observe(resource, taken.reports)
        plan = self._decide(resource, observed)
        try:
            await self._executor.execute(manifest, plan)
        except ConflictError as error:
            await self._tell(manifest, resource, replace(observed, conflicts={error.ref: error.owner}))
            raise
        except RefusedError as error:
            await self._tell(manifest, resource, replace(observed, refused={error.ref: error.error.message}))
            raise
        self._inbox.written(key, taken)
        self._count_transition(manifest, plan)
        if plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)

    def _decide(self, resource: TrainingJob | ModelDeployment, observed: Observed) -> Plan:
        arguments = (observed, self._settings, self._clock(), self._key)
        if isinstance(resource, TrainingJob):
            return trainingjob.reconcile(resource, *arguments)
        return modeldeployment.reconcile(resource, *arguments)

    async def _tell(self, manifest: Manifest, resource: TrainingJob | ModelDeployment, observed: Observed) -> None:
        """Write the status alone: what the cluster or another owner has to say against the children."""
        await self._executor.write_status(manifest, self._decide(resource, observed))

    def _count_transition(self, manifest: Manifest, plan: Plan) -> None:
        if self._metrics is None or plan.status is None:
            return
        kind = manifest["kind"]
        summary = ConditionType.SUCCEEDED if kind == names.TRAINING_JOB else ConditionType.READY
        before = manifest.get("status") or {}
        # Only the first time counts: Ready is Unknown until then, and False when it is lost.
        if _is_true(plan.status, summary) and _status(before, summary) in (None, "Unknown"):
            created = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
            self._metrics.became_ready(kind, (self._clock() - created).total_seconds())

    def owner_of_pod(self, name: str, uid: str, namespace: str) -> set[str]:
        """UIDs of the resources that a live pod belongs to, led to by owner references alone; empty if there are none."""
        pod = self.cache.get(Ref("Pod", namespace, name))
        if pod is None or pod["metadata"]["uid"] != uid or pod["metadata"].get("deletionTimestamp"):
            return set()
        clusters = self.cache.by_uid(owners(pod), ["RayCluster"])
        jobs = self.cache.by_uid([uid for cluster in clusters for uid in owners(cluster)], ["RayJob", "RayService"])
        resources = self.cache.by_uid([uid for job in jobs for uid in owners(job)], RESOURCES)
        return {resource["metadata"]["uid"] for resource in resources}


def _status(status: Any, type_: ConditionType) -> str | None:
    return next((entry["status"] for entry in status.get("conditions") or [] if entry["type"] == type_), None)


def _is_true(status: Any, type_: ConditionType) -> bool:
    return _status(status, type_) == "True"
