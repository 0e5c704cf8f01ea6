"""The operator's process: watches, election, reconciling, and what it answers to others."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from eagleray_operator.cluster.kube import KubeCluster
from eagleray_operator.cluster.lease import Lease
from eagleray_operator.cluster.limits import RateLimit
from eagleray_operator.cluster.port import Addresses, ClusterError
from eagleray_operator.cluster.service_addresses import ServiceAddresses
from eagleray_operator.controller.controller import Controller
from eagleray_operator.handlers import Watches
from eagleray_operator.metrics import Metrics
from eagleray_operator.reports import app as reports_app
from eagleray_operator.reports import by_token_review
from eagleray_operator.settings import Settings

logger = logging.getLogger(__name__)

PROBES_PORT = 8080
REPORTS_PORT = 8081
LEASE_NAME = "eagleray"


def main(
    settings_path: Path,
    *,
    host: str = "0.0.0.0",  # noqa: S104
    probes_port: int = PROBES_PORT,
    reports_port: int = REPORTS_PORT,
    addresses: Addresses | None = None,
) -> int:
    """Run the operator until a signal or the loss of its lease; returns the exit code.

    `addresses` says where deployments answer; by default at their Services.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Kopf logs each event of each object at INFO, and at each start that signals are not its concern.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    settings = Settings.load(settings_path)
    return asyncio.run(_Process(settings, host, probes_port, reports_port, addresses or ServiceAddresses()).run())


class _Process:
    """One operator process: watches always, reconciles while it holds the lease."""

    def __init__(self, settings: Settings, host: str, probes_port: int, reports_port: int, addresses: Addresses) -> None:
        self._host = host
        self._ports = (probes_port, reports_port)
        self._metrics = Metrics(CollectorRegistry())
        limit = RateLimit(settings.requests_per_second, settings.requests_burst)
        self._cluster = KubeCluster(self._metrics, limit, lambda: self._lease.held)
        identity = f"{os.environ.get('POD_NAME', os.uname().nodename)}-{os.getpid()}"
        self._lease = Lease(self._cluster, settings.namespace, LEASE_NAME, identity)
        key = Path(settings.key_path).read_bytes().strip()
        self._controller = Controller(self._cluster, addresses, settings, key=key, metrics=self._metrics)
        self._watches = Watches(self._controller.observe, self._begin_anew, identity)
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal (0) or until the lease is lost or a part has ended (1)."""
        await self._cluster.connect()
        self._metrics.expose(self._controller.cache)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        servers = [await self._serve(self._probes(), self._ports[0]), await self._serve(self._reports(), self._ports[1])]
        watch = asyncio.create_task(self._watches.run())
        lead = asyncio.create_task(self._lead())
        stopped = asyncio.create_task(self._stop.wait())
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
        watch.cancel()
        for server in servers:
            await server.cleanup()
        await self._cluster.close()
        return 0 if clean else 1

    def _begin_anew(self) -> None:
        self._metrics.watches_restarted()
        self._controller.look_again()

    def _go_on(self, *_: object) -> None:
        """After a stop, before anything else of this process: requests that were about to be sent must not be any more.

        Not a handler of the event loop, which would come only after what the loop has already begun.
        """
        if not self._lease.held:
            os.write(sys.stderr.fileno(), b"This process stood still for so long that another may lead by now.\n")
            os._exit(1)

    async def _lead(self) -> None:
        await self._watches.ready.wait()
        await self._lease.acquire()
        signal.signal(signal.SIGCONT, self._go_on)
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
            if self._watches.ready.is_set():
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
