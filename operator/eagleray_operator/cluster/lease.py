"""Leader election by a Lease of coordination.k8s.io, with the times of client-go."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from eagleray_operator.cluster.port import ClusterError

logger = logging.getLogger(__name__)

DURATION_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


class Api(Protocol):
    """The requests that the election makes."""

    async def request(self, method: str, path: str, kind: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One request to the apiserver."""


class Lease:
    """Holds one Lease for one process.

    A holder that could not renew for 10 s has lost it, 5 s before another may take it; whoever acts as the leader must
    then end at once. Others take a Lease over when it has not changed for 15 s by their own clock, so that clocks need
    not agree.
    """

    def __init__(self, api: Api, namespace: str, name: str, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`identity` names this process among the replicas."""
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._seen: tuple[str, float] | None = None
        self._written: Any = None
        """The Lease as it was answered to our last write."""
        self._renewed = -DURATION_SECONDS * 2.0

    @property
    def held(self) -> bool:
        """Whether this process may act as the leader at this moment."""
        return self._clock() - self._renewed < RENEW_DEADLINE_SECONDS

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._try():  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        logger.info("This process leads.")

    async def keep(self) -> None:
        """Renew until the Lease is lost, then return."""
        while self.held:
            await asyncio.sleep(RETRY_SECONDS)
            await self._try()
        logger.error("The lease is lost.")

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait for its end."""
        if not self.held:
            return
        lease = await self._api.request("GET", f"{self._path}/{self._name}", "Lease")
        if lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._api.request("PUT", f"{self._path}/{self._name}", "Lease", lease)
        self._renewed = -DURATION_SECONDS * 2.0

    async def _try(self) -> bool:
        asked = self._clock()
        try:
            async with asyncio.timeout(RENEW_DEADLINE_SECONDS / 2):
                taken = await self._take()
        except (ClusterError, TimeoutError) as error:
            logger.info("The lease could not be renewed: %s", error)
            return False
        if taken:
            # Counted from before the request: the Lease may have been written at any moment since then.
            self._renewed = asked
        return taken

    async def _take(self) -> bool:
        if self._written is not None:
            written, self._written = self._written, None
            try:
                # Renewing is one request: on a busy machine a second one may come too late.
                return await self._put(written)
            except ClusterError as error:
                if error.status not in (404, 409):
                    raise
        try:
            lease = await self._api.request("GET", f"{self._path}/{self._name}", "Lease")
        except ClusterError as error:
            if error.status != 404:
                raise
            spec = self._ours() | {"acquireTime": _now(), "leaseTransitions": 0}
            metadata = {"name": self._name, "namespace": self._namespace}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            self._written = await self._api.request("POST", self._path, "Lease", lease)
            return True
        spec = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self._identity and not self._expired(lease):
            return False
        if holder != self._identity:
            spec |= {"acquireTime": _now(), "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return await self._put(lease)

    async def _put(self, lease: Any) -> bool:
        """Make that version of the Lease ours: of two that try at once, one is refused."""
        changed = lease | {"spec": lease["spec"] | self._ours()}
        self._written = await self._api.request("PUT", f"{self._path}/{self._name}", "Lease", changed)
        return True

    def _ours(self) -> dict[str, Any]:
        return {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": _now()}

    def _expired(self, lease: Any) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
            return False
        return self._clock() - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
