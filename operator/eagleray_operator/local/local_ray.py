"""Does for RayJob and RayService objects what KubeRay does, on one private Ray.

It reads the objects from the cluster in memory and brings Ray to what they say, then Ray's state back into their status, in
KubeRay's words; so the reconcilers cannot tell the difference.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import ClusterError, Manifest
from eagleray_operator.local.jobs import LocalJobs
from eagleray_operator.local.mounts import Mounts
from eagleray_operator.local.objects import Objects
from eagleray_operator.local.private_ray import LocalRayError, RayEndedError
from eagleray_operator.local.ray_api import RayApi
from eagleray_operator.local.services import LocalServices

logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.25
CALM_SECONDS = 1.0
"""How often Ray is asked while something is on its way, and while nothing is."""


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
        objects = Objects(cluster, ray)
        self.jobs = LocalJobs(cluster, ray, mounts, objects, clock or asyncio.get_running_loop().time)
        self.services = LocalServices(cluster, ray, mounts, objects)
        self._jobs_changed = asyncio.Event()
        self._services_changed = asyncio.Event()
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
                tasks.create_task(self._loop(self.jobs.look, self._jobs_changed))
                tasks.create_task(self._loop(self.services.look, self._services_changed))
        except* RayEndedError as group:
            raise group.exceptions[0] from None
        finally:
            self.services.close()

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
