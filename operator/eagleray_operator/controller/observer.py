"""Collects what a reconciler sees of a resource's surroundings: from the cache, and what little must be asked."""

import asyncio
import time
from dataclasses import replace

from eagleray_operator.api import names
from eagleray_operator.api.modeldeployment import ModelDeployment
from eagleray_operator.api.trainingjob import TrainingJob
from eagleray_operator.cluster.port import Addresses, Cluster, Manifest, ProbeResult, Ref
from eagleray_operator.controller.cache import Cache
from eagleray_operator.reconcilers import inputs, modeldeployment
from eagleray_operator.reconcilers.plan import Observed
from eagleray_runtime.contract.reports import Report

NEEDED_KINDS = {names.TRAINING_JOB: ("RayJob", "RayCluster"), names.MODEL_DEPLOYMENT: ("RayService", "RayCluster")}

PROBE_VALID_SECONDS = 10.0
"""How long a good answer of a revision counts before it is asked again."""


class Observer:
    """Makes an Observed for each reconcile."""

    def __init__(self, cluster: Cluster, addresses: Addresses, cache: Cache) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._cache = cache
        self._answers: dict[tuple[str, str, bool], tuple[float, ProbeResult]] = {}

    async def observe(self, resource: TrainingJob | ModelDeployment, reports: tuple[Report, ...]) -> Observed:
        """The resource's children, references, answers and reports at this moment."""
        metadata = resource.metadata
        if isinstance(resource, TrainingJob):
            kind, wanted = names.TRAINING_JOB, inputs.references(resource)
        else:
            kind, wanted = names.MODEL_DEPLOYMENT, modeldeployment.references(resource)
        missing = [needed for needed in NEEDED_KINDS[kind] if not await self._cluster.serves(needed)]
        references: dict[Ref, Manifest] = {}
        absent = set()
        for ref in wanted:
            live = self._cache.get(ref) or await self._cluster.get(ref)
            if live is None:
                absent.add(ref)
            else:
                references[ref] = live
        observed = Observed(
            children=self._cache.descendants(metadata.uid),
            references=references,
            absent=frozenset(absent),
            missing_kinds=tuple(missing),
            reports=reports,
        )
        if isinstance(resource, TrainingJob):
            return observed
        url = self._addresses.url(metadata.namespace, metadata.name)
        return replace(observed, url=url, probes=await self._probes(resource, observed))

    async def _probes(self, deployment: ModelDeployment, observed: Observed) -> dict[str, ProbeResult]:
        wanted = modeldeployment.to_probe(deployment, observed)
        answers = await asyncio.gather(*(self._probe(deployment, revision, active) for revision, active in wanted.items()))
        return dict(zip(wanted, answers, strict=True))

    async def _probe(self, deployment: ModelDeployment, revision: str, active: bool) -> ProbeResult:
        key = (deployment.metadata.uid, revision, active)
        known = self._answers.get(key)
        if known is not None and time.monotonic() - known[0] < PROBE_VALID_SECONDS:
            return known[1]
        metadata = deployment.metadata
        answer = await self._addresses.probe(metadata.namespace, metadata.name, revision, active=active)
        if answer.ready:
            self._answers[key] = (time.monotonic(), answer)
        else:
            self._answers.pop(key, None)
        return answer

    def forget(self, uid: str) -> None:
        """Drop what was kept of a resource that is gone."""
        for key in [key for key in self._answers if key[0] == uid]:
            del self._answers[key]
