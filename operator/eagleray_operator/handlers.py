"""The edge to Kopf: turns watch events into keys on the queue, and wires the process. The only module that imports kopf."""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import kopf
from aiohttp import web
from prometheus_client import CollectorRegistry

from eagleray_operator.cluster.kube import LABEL_SELECTOR, OWN_KINDS, KubeCluster
from eagleray_operator.cluster.lease import Lease
from eagleray_operator.cluster.port import KINDS, ClusterError
from eagleray_operator.cluster.service_addresses import ServiceAddresses
from eagleray_operator.controller.controller import WATCHED, Controller
from eagleray_operator.metrics import Metrics
from eagleray_operator.reports import app as reports_app
from eagleray_operator.reports import by_token_review
from eagleray_operator.settings import Settings

logger = logging.getLogger(__name__)

PROBES_PORT = 8080
REPORTS_PORT = 8081
LEASE_NAME = "eagleray"


def main(settings_path: Path, *, host: str = "0.0.0.0", probes_port: int = PROBES_PORT, reports_port: int = REPORTS_PORT) -> int:  # noqa: S104
    """Run the operator until a signal or the loss of its lease; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Kopf logs each event of each object at INFO.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings = Settings.load(settings_path)
    return asyncio.run(_Process(settings, host, probes_port, reports_port).run())


def registry(controller: Controller) -> kopf.OperatorRegistry:
    """Event handlers of every kind that the cache holds; they do nothing but hand the object over."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(kopf.login_via_client)

    async def seen(event: Any, **_: Any) -> None:
        controller.observe(event["type"], _plain(event["object"]))

    for name in WATCHED:
        kind = KINDS[name]
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=f"seen-{kind.plural}")(seen)
    return handlers


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a watcher alone: no peering, no event posting, patient with an apiserver that is away."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    # Kopf ends the process when these are used up; a long outage of the apiserver should not become a crash loop.
    settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30, 30, 30)
    settings.watching.inactivity_timeout = 70
    settings.watching.server_timeout = 290
    for name in WATCHED:
        if name not in OWN_KINDS:
            kind = KINDS[name]
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = LABEL_SELECTOR
    return settings


def _plain(body: Any) -> dict[str, Any]:
    """The object as plain values, free of Kopf's views."""
    return dict(body)


class _Process:
    """One operator process: watches always, reconciles while it holds the lease."""

    def __init__(self, settings: Settings, host: str, probes_port: int, reports_port: int) -> None:
        self._settings = settings
        self._host = host
        self._ports = (probes_port, reports_port)
        self._metrics = Metrics(CollectorRegistry())
        self._cluster = KubeCluster(self._metrics)
        self._identity: Any = f"{os.environ.get('POD_NAME', os.uname().nodename)}-{os.getpid()}"
        self._lease = Lease(self._cluster, settings.namespace, LEASE_NAME, self._identity)
        key = Path(settings.key_path).read_bytes().strip()
        self._controller = Controller(self._cluster, ServiceAddresses(), settings, key=key, metrics=self._metrics)
        self._kopf_ready = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal (0) or until the lease is lost or a part has ended (1)."""
        await self._cluster.connect()
        self._metrics.expose(self._controller.cache)
        self._take_signals()
        servers = [await self._serve(self._probes(), self._ports[0]), await self._serve(self._reports(), self._ports[1])]
        # Kopf ends every task that was started after it in its loop: ours come first.
        lead = asyncio.create_task(self._lead())
        stopped = asyncio.create_task(self._stop.wait())
        watch = asyncio.create_task(
            kopf.operator(
                registry=registry(self._controller),
                settings=kopf_settings(),
                clusterwide=True,
                # Kopf would look the user's name up, and a pod's user need not have one.
                identity=self._identity,
                ready_flag=self._kopf_ready,
                stop_flag=self._stop,
            )
        )
        done, _ = await asyncio.wait({lead, stopped, watch}, return_when=asyncio.FIRST_COMPLETED)
        clean = stopped in done
        for task in done - {stopped}:
            if not task.cancelled() and task.exception() is not None:
                clean = False
                logger.error("A part of the operator has ended.", exc_info=task.exception())
        if lead in done and not clean:
            # Without the lease nothing more may be written, not even by a request that is on its way.
            logging.shutdown()
            os._exit(1)
        lead.cancel()
        await asyncio.wait({lead}, timeout=5)
        if clean:
            await self._release()
        self._stop.set()
        await asyncio.wait({watch}, timeout=10)
        for server in servers:
            await server.cleanup()
        await self._cluster.close()
        return 0 if clean else 1

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _lead(self) -> None:
        await self._kopf_ready.wait()
        # Kopf has set handlers of its own, which would cancel our tasks before the lease is given back.
        self._take_signals()
        await self._lease.acquire()
        self._metrics.leader(True)
        work = asyncio.create_task(self._controller.run())
        keep = asyncio.create_task(self._lease.keep())
        try:
            done, _ = await asyncio.wait({work, keep}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._metrics.leader(False)
            work.cancel()
            keep.cancel()

    async def _release(self) -> None:
        try:
            await self._lease.release()
        except ClusterError as error:
            # The lease ends by itself soon; the way out must not depend on an apiserver that may be away.
            logger.warning("The lease could not be given back: %s", error)

    async def _serve(self, application: web.Application, port: int) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._host, port).start()
        return runner

    def _reports(self) -> web.Application:
        authenticate = by_token_review(self._cluster, self._controller)
        return reports_app(self._controller, authenticate, leading=lambda: self._lease.held, metrics=self._metrics)

    def _probes(self) -> web.Application:
        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok")

        async def readyz(_: web.Request) -> web.Response:
            if self._kopf_ready.is_set():
                return web.Response(text="ok")
            return web.Response(status=503, text="the watches are not up yet")

        async def metrics(request: web.Request) -> web.Response:
            body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
            return web.Response(body=body, headers={"Content-Type": content_type})

        application = web.Application()
        application.router.add_get("/healthz", healthz)
        application.router.add_get("/readyz", readyz)
        application.router.add_get("/metrics", metrics)
        return application
