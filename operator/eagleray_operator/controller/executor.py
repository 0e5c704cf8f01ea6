"""Carries a plan out, writing only what is not so already."""

import logging
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from eagleray_operator.cluster.port import Cluster, ClusterError, Manifest, Ref
from eagleray_operator.controller.cache import Cache, owners
from eagleray_operator.reconcilers.plan import Plan

logger = logging.getLogger(__name__)

WITH_PODS = ("RayJob", "RayService")
"""Children that cost pods: made last, when it is known that the names of all others are free."""

Answer = TypeVar("Answer")


class ConflictError(Exception):
    """A child's name belongs to somebody else."""

    def __init__(self, ref: Ref, owner: str) -> None:
        super().__init__(f"{ref.kind} {ref.name} belongs to {owner}")
        self.ref = ref
        self.owner = owner


class RefusedError(Exception):
    """The cluster would not have a child as it is."""

    def __init__(self, ref: Ref, error: ClusterError) -> None:
        super().__init__(error.message)
        self.ref = ref
        self.error = error


def contains(live: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in the live value: keys of mappings, lists item by item, the rest by value."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(key in live and contains(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(contains(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


class Executor:
    """Writes through the cluster, and takes each answer into the cache so that the next reconcile sees it at once."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._unanswered: set[Ref] = set()

    async def execute(self, resource: Manifest, plan: Plan) -> None:
        """Carry the plan out in its order.

        Raises ConflictError when a child's name is taken, with nothing written of it and of what comes after it,
        RefusedError when the cluster would not have a child, ClusterError when it does not answer or the resource has
        changed meanwhile.
        """
        uid = resource["metadata"]["uid"]
        for manifest in plan.apply:
            _check_owner(self._cache.get(Ref.of(manifest)), uid)
        if any(self._was_there(Ref.of(manifest), resource) for manifest in plan.apply):
            await self._confirm(resource)
        for manifest in plan.ensure:
            if _names_its_owner(manifest):
                await self._attempt(manifest, self._cluster.create(manifest))
        for manifest in sorted(plan.apply, key=lambda child: child["kind"] in WITH_PODS):
            await self._apply(manifest, uid)
        for manifest in plan.ensure:
            if not _names_its_owner(manifest):
                await self.follow(manifest)
        for patch in plan.patch:
            self._cache.put(await self._cluster.patch(patch.ref, patch.operations))
        # First what has become of a thing, then its deletion: after a crash in between nobody could tell.
        await self.write_status(resource, plan)
        for deletion in plan.delete:
            await self._cluster.delete(deletion.ref, deletion.uid, deletion.version)

    async def write_status(self, resource: Manifest, plan: Plan) -> None:
        """Write the plan's status, if it is another, and then its events."""
        if plan.status is None or plan.status == resource.get("status"):
            return
        self._cache.put(await self._cluster.write_status(resource, plan.status))
        for event in plan.events:
            try:
                await self._cluster.record(resource, event)
            except ClusterError as error:
                # The status has it; an event is for those who look at the right moment.
                logger.info("The event %s could not be written: %s", event.reason, error.message)

    async def follow(self, manifest: Manifest) -> None:
        """Create what belongs to a child that is there by now, if it is not there itself; raises as `execute` does."""
        [owner] = manifest["metadata"]["ownerReferences"]
        child = self._cache.known(Ref(owner["kind"], manifest["metadata"]["namespace"], owner["name"]))
        if child is None:
            raise ClusterError(409, f"{owner['kind']} {owner['name']} was there and is gone")
        owned = {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner | {"uid": child.uid}]}}
        await self._attempt(owned, self._cluster.create(owned))

    async def _apply(self, manifest: Manifest, uid: str) -> None:
        """Make a child what it should be, and never anybody else's object of its name."""
        ref = Ref.of(manifest)
        live = self._cache.get(ref)
        if live is None:
            # Not applied: that would also change an object of that name that we do not know of.
            try:
                live = await self._attempt(manifest, self._cluster.create(manifest))
            except ClusterError:
                self._unanswered.add(ref)
                raise
            self._unanswered.discard(ref)
            if live is None and (live := await self._cluster.get(ref)) is None:
                raise ClusterError(409, f"{ref.kind} {ref.name} was there and is gone")
            _check_owner(live, uid)
            self._cache.put(live)
        if not contains(live, manifest):
            meant = {**manifest, "metadata": {**manifest["metadata"], "uid": live["metadata"]["uid"]}}
            self._cache.put(await self._attempt(manifest, self._cluster.apply(meant)))

    def _was_there(self, ref: Ref, resource: Manifest) -> bool:
        """Whether a child that is missing may have been there before."""
        if self._cache.known(ref) is not None:
            return False
        # A create without an answer may have done its work, and what it made may be gone again.
        return self._cache.was_deleted(ref) or ref in self._unanswered or (ref.kind in WITH_PODS and bool(resource.get("status")))

    async def _confirm(self, resource: Manifest) -> None:
        """Raise ClusterError if the resource is not what we know any more.

        A child that is missing may be missing because the resource is being deleted, of which its own watch has not told
        yet: what was at work must not be started once more.
        """
        live = await self._cluster.get(Ref.of(resource))
        if live is None or live["metadata"]["resourceVersion"] != resource["metadata"]["resourceVersion"]:
            if live is not None:
                self._cache.put(live)
            raise ClusterError(409, f"{resource['kind']} {resource['metadata']['name']} has changed meanwhile")

    async def _attempt(self, manifest: Manifest, call: Awaitable[Answer]) -> Answer:
        try:
            return await call
        except ClusterError as error:
            if error.is_refusal:
                raise RefusedError(Ref.of(manifest), error) from error
            raise


def _names_its_owner(manifest: Manifest) -> bool:
    return all("uid" in owner for owner in manifest["metadata"]["ownerReferences"])


def _check_owner(live: Manifest | None, uid: str) -> None:
    if live is None or uid in owners(live):
        return
    others = live["metadata"].get("ownerReferences") or []
    owner = f"{others[0]['kind']} {others[0]['name']}" if others else "nobody that we know"
    raise ConflictError(Ref.of(live), owner)
