"""The loop: events wake keys, each key is reconciled from what is known now."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
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
from eagleray_operator.children import secret
from eagleray_operator.cluster.port import Addresses, Cluster, ClusterError, Manifest, Ref
from eagleray_operator.controller.cache import Cache, Known
from eagleray_operator.controller.executor import ConflictError, Executor, RefusedError
from eagleray_operator.controller.inbox import Inbox
from eagleray_operator.controller.observer import Observer
from eagleray_operator.controller.queue import LONGEST_RETRY_SECONDS, Urgency, WorkQueue
from eagleray_operator.metrics import Metrics
from eagleray_operator.reconcilers import modeldeployment, trainingjob
from eagleray_operator.reconcilers.invalid import invalid_status
from eagleray_operator.reconcilers.plan import Observed, Plan
from eagleray_operator.settings import Settings
from eagleray_runtime.contract.reports import FailureReport, ProgressReport, Report

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

SWEEP_AGAIN_SECONDS = 2.0

SWEPT_AT_ONCE = 50
"""Listed objects that are taken in before others have their turn."""

LEAVING_SECONDS = 5.0
"""How long KubeRay may take to stop a job before its token is taken to be missing."""

REPORT_SECONDS = 20
"""How long a result may wait for its status write before the runtime is asked to send it again."""


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
        self._sweep_wanted = asyncio.Event()

    def observe(self, event_type: str | None, manifest: Manifest) -> None:
        """Take in an event of a watch: ADDED, MODIFIED, DELETED or None for an object of a first listing."""
        ref = Ref.of(manifest)
        known = self.cache.known(ref)
        if event_type is None and known is not None and known.is_of(manifest):
            # No news, and a listing is many of them. Who waits for the echo of a write that no watch told, the sweep queues.
            return
        deleted = event_type == "DELETED"
        changed = self.cache.remove(manifest) if deleted else self.cache.put(manifest)
        if not changed:
            return
        if known is not None and ref.kind in RESOURCES and (deleted or known.uid != manifest["metadata"]["uid"]):
            self._observer.forget(known.uid)
            self._inbox.forget(known.uid)
            self._queue.forget(ref)
        self._wake(manifest, _urgency(event_type, manifest, known))

    async def run(self) -> None:
        """Reconcile until cancelled; everything is listed first, so that no decision rests on a part of the picture."""
        while await self._swept():  # noqa: ASYNC110
            await asyncio.sleep(SWEEP_AGAIN_SECONDS)
        self._primed = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_often())
            for _ in range(self._settings.workers):
                tasks.create_task(self._work())

    async def submit(self, report: Report) -> int:
        """Take in a report; returns the HTTP status to answer with, after the status write for results and failures."""
        if not self._primed:
            return 503
        verdict = self._verdict(report)
        if verdict != 202:
            return verdict
        identity = report.resource
        ref = Ref(identity.kind, identity.namespace, identity.name)
        if isinstance(report, ProgressReport):
            self._queue.add_after(ref, self._inbox.put(identity.uid, report))
            return 202
        written = self._inbox.put_and_wait(identity.uid, report)
        self._queue.add(ref)
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await written
        except TimeoutError:
            return 503
        # The attempt may have come to another end before the report was looked at.
        verdict = self._verdict(report)
        return 200 if verdict == 202 and isinstance(report, FailureReport) else verdict

    def _verdict(self, report: Report) -> int:
        """What a report is worth: 202 where it belongs to the open attempt, else the answer to it."""
        identity = report.resource
        manifest = self.cache.get(Ref(identity.kind, identity.namespace, identity.name))
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
        return 202

    async def sweep(self, kinds: Collection[str] = WATCHED) -> None:
        """List what there is of these kinds: objects that a watch missed come, those whose deletion it missed go."""
        for kind in kinds:
            before = self.cache.uids(kind)
            # With a definition all objects of it go, and no watch tells.
            listed = await self._cluster.list_all(kind) if await self._cluster.serves(kind) else []
            for number, manifest in enumerate(listed):
                self.observe(None, manifest)
                if number % SWEPT_AT_ONCE == 0:
                    # The lease is renewed and probes are answered in this loop too.
                    await asyncio.sleep(0)
            # By UID: another of the name may have been made since.
            for uid in before - {manifest["metadata"]["uid"] for manifest in listed}:
                for gone in self.cache.by_uid([uid], [kind]):
                    self.observe("DELETED", gone)
            if kind in RESOURCES:
                for ref in self.cache.refs(kind):
                    self._queue.add(ref, Urgency.ROUTINE)

    def look_again(self) -> None:
        """Sweep soon: a watch has begun anew, and what was deleted meanwhile it does not tell."""
        self._sweep_wanted.set()

    async def _sweep_often(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.sweep_seconds):
                    await self._sweep_wanted.wait()
            self._sweep_wanted.clear()
            unanswered = await self._swept()
            while unanswered:
                await asyncio.sleep(SWEEP_AGAIN_SECONDS)
                unanswered = await self._swept(unanswered)

    async def _swept(self, kinds: Collection[str] = WATCHED) -> list[str]:
        """Sweep those kinds; returns those of which there was no listing, for one that is refused must not hide the others."""
        unanswered = []
        for kind in kinds:
            try:
                await self.sweep([kind])
            except ClusterError as error:
                logger.warning("No listing of %s (%s); soon again.", kind, error.message)
                unanswered.append(kind)
        return unanswered

    def _wake(self, manifest: Manifest, urgency: Urgency) -> None:
        """Queue the resources that an object concerns: itself, its owner by label, and those that refer to it."""
        metadata = manifest["metadata"]
        kind = manifest["kind"]
        namespace = metadata["namespace"]
        if kind in RESOURCES:
            self._queue.add(Ref.of(manifest), urgency)
        labels = metadata.get("labels") or {}
        for owner_kind, label in names.RESOURCE_LABEL.items():
            if label in labels:
                self._queue.add(Ref(owner_kind, namespace, labels[label]), urgency)
        for owner in metadata.get("ownerReferences") or []:
            if owner["kind"] in RESOURCES:
                self._queue.add(Ref(owner["kind"], namespace, owner["name"]), urgency)
                if kind == "RayJob" and metadata.get("deletionTimestamp"):
                    self._queue.add_after(Ref.of(manifest), LEAVING_SECONDS)
        if kind == names.TRAINING_JOB:
            for ref in self.cache.followers(Ref.of(manifest)):
                self._queue.add(ref, urgency)

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
            # Where nothing is asked and nothing written nothing waits either, and thousands would be looked at in one turn.
            await asyncio.sleep(0)

    async def _reconcile(self, key: Ref) -> None:
        manifest = self.cache.get(key)
        if manifest is None:
            return
        leaves = bool(manifest["metadata"].get("deletionTimestamp"))
        if key.kind == "RayJob":
            # Another one of the name may have been made meanwhile.
            if leaves:
                await self._let_go(manifest)
            return
        if leaves:
            return
        try:
            resource = RESOURCES[key.kind].model_validate(manifest)
        except ValidationError as error:
            metadata = Metadata.model_validate(manifest["metadata"])
            status = invalid_status(key.kind, metadata, manifest.get("status") or {}, error, self._clock())
            await self._executor.write_status(manifest, Plan(status=status))
            return
        uid = manifest["metadata"]["uid"]
        taken = self._inbox.take(uid)
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
        self._inbox.written(uid, taken)
        self._count_transition(manifest, plan)
        if plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)

    async def _let_go(self, ray_job: Manifest) -> None:
        """Make the token again of a RayJob that stays though it is deleted.

        Its Secret may be missing: deleted by hand, or refused. Without it KubeRay cannot stop the job, and its pods stay
        for ever (KubeRay 1.6, rayjob_controller.go). Of what the TrainingJob was, the RayJob still tells enough.
        """
        metadata = ray_job["metadata"]
        attempt = (metadata.get("labels") or {}).get(names.LABEL_ATTEMPT)
        job = next((owner for owner in metadata.get("ownerReferences") or [] if owner["kind"] == names.TRAINING_JOB), None)
        if attempt is None or job is None:
            # Somebody has taken it out of our hands.
            return
        owner = Metadata(name=job["name"], namespace=metadata["namespace"], uid=job["uid"])
        await self._executor.follow(secret.of_attempt(owner, int(attempt), self._key))
        self._queue.add_after(Ref.of(ray_job), LONGEST_RETRY_SECONDS)

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
        kind, before = manifest["kind"], manifest.get("status") or {}
        if kind == names.TRAINING_JOB:
            is_first = _has_succeeded(plan.status) and not _has_succeeded(before)
        else:
            is_first = "firstReadyTime" in plan.status and "firstReadyTime" not in before
        if is_first:
            created = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
            self._metrics.became_ready(kind, (self._clock() - created).total_seconds())

    async def owner_of_pod(self, name: str, uid: str, namespace: str) -> set[str]:
        """UIDs of the resources that a live pod belongs to, led to by owner references alone; empty if there are none.

        What no watch has told yet is asked for. Raises ClusterError if there is no answer.
        """
        pod = await self._known(Ref("Pod", namespace, name), uid)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return set()
        clusters = await self._owners_of(pod, ("RayCluster",))
        jobs = [job for cluster in clusters for job in await self._owners_of(cluster, ("RayJob", "RayService"))]
        resources = [resource for job in jobs for resource in await self._owners_of(job, RESOURCES)]
        return {resource["metadata"]["uid"] for resource in resources}

    async def _owners_of(self, manifest: Manifest, kinds: Collection[str]) -> list[Manifest]:
        namespace = manifest["metadata"]["namespace"]
        references = [owner for owner in manifest["metadata"].get("ownerReferences") or [] if owner["kind"] in kinds]
        found = [await self._known(Ref(owner["kind"], namespace, owner["name"]), owner["uid"]) for owner in references]
        return [owner for owner in found if owner is not None]

    async def _known(self, ref: Ref, uid: str) -> Manifest | None:
        """The live object of that address and UID."""
        found = self.cache.get(ref)
        if found is None or found["metadata"]["uid"] != uid:
            found = await self._cluster.get(ref)
        return found if found is not None and found["metadata"]["uid"] == uid else None


def _urgency(event_type: str | None, manifest: Manifest, known: Known | None) -> Urgency:
    """How soon an event is to be looked at."""
    if event_type is None:
        return Urgency.ROUTINE
    if known is None or event_type == "DELETED":
        return Urgency.USER if manifest["kind"] in RESOURCES else Urgency.NEWS
    metadata = manifest["metadata"]
    if metadata.get("resourceVersion") == str(known.version):
        return Urgency.ROUTINE
    if manifest["kind"] in RESOURCES and metadata.get("generation") != known.generation:
        return Urgency.USER
    return Urgency.NEWS


def _has_succeeded(status: Any) -> bool:
    return any(entry["type"] == ConditionType.SUCCEEDED and entry["status"] == "True" for entry in status.get("conditions") or [])
