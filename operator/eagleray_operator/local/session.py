"""Local mode in one process: a cluster in memory, the controller, a private Ray."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from eagleray_operator.cluster.admission import judges
from eagleray_operator.cluster.memory import MemoryCluster
from eagleray_operator.cluster.port import Manifest, Ref
from eagleray_operator.controller.controller import RESOURCES, Controller
from eagleray_operator.local.addresses import LocalAddresses
from eagleray_operator.local.local_ray import LocalRay
from eagleray_operator.local.mounts import Mounts
from eagleray_operator.local.private_ray import PrivateRay, new_directory
from eagleray_operator.local.view import View, view
from eagleray_operator.reports import app as reports_app
from eagleray_operator.settings import Settings
from eagleray_runtime.contract import names as runtime_names
from eagleray_runtime.contract.reports import Report

STEADY_SECONDS = 3.0
"""How long a failure that another reconcile could still mend must stand before it counts."""


class LocalRun:
    """One run; use it as an async context manager. Everything is gone after it but the claims in `volumes`."""

    def __init__(self, volumes: Path | None = None) -> None:
        """`volumes` is the folder for what pvc:// names; by default it goes with the run."""
        self._directory = new_directory()
        self.volumes = (volumes or self._directory / "volumes").absolute()
        self._token = secrets.token_urlsafe(32)
        self.cluster = MemoryCluster(admit=judges())
        environment = {runtime_names.PVC_ROOT_ENV: str(self.volumes / "default")}
        self.ray = PrivateRay(self._directory, environment)
        self._tasks: list[asyncio.Task[Any]] = []
        self._reports: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self._unsettled_since: dict[Ref, float] = {}

    async def __aenter__(self) -> Self:
        self._spawn(self.ray.start(), "ray")
        listener = socket.create_server(("127.0.0.1", 0))
        settings = Settings(
            reports_url=f"http://127.0.0.1:{listener.getsockname()[1]}{runtime_names.REPORTS_PATH}",
            progress_interval_seconds=0.5,
            drain_seconds=5,
        )
        addresses = LocalAddresses(self.ray.serve_port, self.cluster)
        self._controller = Controller(self.cluster, addresses, settings, key=secrets.token_bytes(32))
        await self._serve_reports(listener)
        self.cluster.watch(self._controller.observe)
        self.cluster.watch(lambda _event, _manifest: self._changed.set())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pending = set(self._tasks)
        while pending:
            # More than once: a library's asyncio.wait_for, too, may lose a cancellation in Python 3.11.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=1)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ray.stop()
        if self._reports is not None:
            await self._reports.cleanup()

    async def apply(self, manifests: Sequence[Manifest]) -> None:
        """Put objects into the cluster, as a user does: what others refer to first; then the controller sees them."""
        for manifest in sorted(manifests, key=lambda manifest: manifest["kind"] in RESOURCES):
            await self.cluster.put(manifest)
        if len(self._tasks) == 1:
            mounts = Mounts(self._directory / "pods", self.volumes, self._token, self.cluster)
            self._spawn(LocalRay(self.cluster, self.ray, mounts).run(), "local ray")
            self._spawn(self._controller.run(), "controller")

    def resources(self) -> list[Manifest]:
        """The TrainingJobs and ModelDeployments as they are now."""
        return [manifest for kind in RESOURCES for manifest in self.cluster.of_kind(kind)]

    def views(self) -> list[View]:
        """What there is to say of each resource now."""
        return [view(manifest) for manifest in self.resources()]

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for something about the objects; raises what ended a part of the run."""
        while not predicate():
            for task in self._tasks:
                if task.done() and task.exception() is not None:
                    await task
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._changed.wait()

    def settled(self) -> bool:
        """Whether every resource has come to its end or to rest; a failure that could still mend itself must stand a while."""
        now = asyncio.get_running_loop().time()
        settled = [self._is_settled(manifest, now) for manifest in self.resources()]
        return all(settled)

    def _is_settled(self, manifest: Manifest, now: float) -> bool:
        ref, seen = Ref.of(manifest), view(manifest)
        if seen.final:
            return True
        if not seen.failing:
            self._unsettled_since.pop(ref, None)
            return False
        return now - self._unsettled_since.setdefault(ref, now) >= STEADY_SECONDS

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _serve_reports(self, listener: socket.socket) -> None:
        async def authenticate(token: str, _report: Report) -> int:
            return 200 if secrets.compare_digest(token, self._token) else 401

        self._reports = web.AppRunner(reports_app(self._controller, authenticate), access_log=None)
        await self._reports.setup()
        await web.SockSite(self._reports, listener).start()


def failed(views: Iterable[View]) -> list[View]:
    """Those that did not come to the good end."""
    return [seen for seen in views if not seen.good]
