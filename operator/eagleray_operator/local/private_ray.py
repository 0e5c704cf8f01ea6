"""A private Ray on this machine: started in a child process, reached over its REST APIs, gone when we are.

Nothing of it is shared with another Ray: own directory, own ports, own token. `ray stop` is never used, since it ends every
Ray process of the machine.
"""

import asyncio
import contextlib
import csv
import io
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from eagleray_operator.children.rayservice import FAST_PATH
from eagleray_runtime.contract import names as runtime_names

LEAST_CPUS = 8
"""CPUs that Ray counts at least: they are a count and no reservation, so small models may share a core."""

OBJECT_STORE_BYTES = 256 * 2**20
REPLICA = "SERVE_REPLICA_"
_MODEL = f"-{runtime_names.SERVE_DEPLOYMENT}-"
"""HAProxy calls a replica by Serve's name of it: SERVE_REPLICA_<application>-Model-<number>."""

START_SECONDS = 120.0
STOP_SECONDS = 6.0


class LocalRayError(Exception):
    """The private Ray did not start or does not answer; the text says why."""


class RayEndedError(LocalRayError):
    """The private Ray is gone for good."""


@dataclass(frozen=True)
class RayAddresses:
    """Where the private Ray is, and what it counts."""

    dashboard: str
    gcs: str
    cpus: float
    gpus: float


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(number):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


def new_directory() -> Path:
    """A directory of this run for us alone; its path is short, since Ray's sockets lie below it."""
    root = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - mkdtemp makes it ours, with mode 0700
    return Path(tempfile.mkdtemp(prefix="eagleray-", dir=root))


class PrivateRay:
    """The child process and a client of its REST APIs."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of every Ray process."""
        self.directory = directory
        self.serve_port, self.stats_port, self._dashboard_port, *self._ports = free_ports(6)
        self._token = secrets.token_hex(32)
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._addresses: RayAddresses | None = None

    @property
    def addresses(self) -> RayAddresses:
        """Where it is; LocalRayError before it has started."""
        if self._addresses is None:
            raise LocalRayError("Ray has not started yet")
        return self._addresses

    @property
    def started(self) -> bool:
        """Whether it takes requests."""
        return self._addresses is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until its APIs answer; raises LocalRayError with Ray's own last words."""
        options = {
            "directory": str(self.directory),
            "dashboard_port": self._dashboard_port,
            "cpus": max(os.cpu_count() or 1, LEAST_CPUS),
            "object_store_bytes": OBJECT_STORE_BYTES,
        }
        (self.directory / "ray").mkdir(exist_ok=True)
        with (self.directory / "head.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "eagleray_operator.local.head",
                json.dumps(options),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._head_environment(),
                cwd=self.directory / "ray",
                start_new_session=True,
            )
        if self._process.stdout is None:
            raise LocalRayError("the head has no output")
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise LocalRayError(f"Ray did not start within {START_SECONDS:.0f} s: {self._last_words()}") from None
        if not line:
            raise LocalRayError(f"Ray did not start: {self._last_words()}")
        found = RayAddresses(**json.loads(line))
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, timeout=aiohttp.ClientTimeout(total=60)
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            # The job API answers some seconds before it can take a job; the Serve API comes last.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.get(f"{found.dashboard}/api/serve/applications/") as answer:
                    if answer.status == 200:
                        break
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise LocalRayError(f"Ray's APIs did not answer: {self._last_words()}")
            await asyncio.sleep(0.1)
        self._addresses = found

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a REST call, parsed if it is JSON; raises LocalRayError if there is none."""
        if self._session is None:
            raise LocalRayError("Ray has not started yet")
        try:
            async with self._session.request(method, f"{self.addresses.dashboard}{path}", json=body) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            if self._process is not None and self._process.returncode is not None:
                raise RayEndedError(f"Ray ended: {self._last_words()}") from None
            raise LocalRayError(f"{method} {path}: {error or type(error).__name__}") from None
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    async def routed_replicas(self) -> dict[str, int] | None:
        """Replicas that HAProxy sends requests to, by application; None while it does not tell.

        For a second or two after its start an application is answered by a slow stand-in, Serve's Python proxy.
        """
        try:
            # Without our token: this is not Ray.
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"http://127.0.0.1:{self.stats_port}/stats;csv") as answer,
            ):
                table = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        found: dict[str, int] = {}
        for row in csv.DictReader(io.StringIO(table.removeprefix("# "))):
            server = row.get("svname") or ""
            if server.startswith(REPLICA) and row.get("status") == "UP" and _MODEL in server:
                name = server.removeprefix(REPLICA).rpartition(_MODEL)[0]
                found[name] = found.get(name, 0) + 1
        return found

    async def stop(self) -> None:
        """End it and remove its directory; safe to call at any time and more than once."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        # A head that is still starting does not listen; what it has started so far ends by Ray's reaper.
        patience = STOP_SECONDS if self._addresses is not None else 0.0
        self._addresses = None
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(patience):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await self._end_left_over(process.pid)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    async def _end_left_over(self, head: int) -> None:
        """Wait until nothing of our Ray is left; after some seconds end what still is."""
        for tried in range(60):
            left = await asyncio.to_thread(_processes_of, head, str(self.directory))
            if not left:
                return
            if tried == 30:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.1)

    def _head_environment(self) -> dict[str, str]:
        metrics, fallback, fallback_grpc = (str(port) for port in self._ports)
        # Replicas take ports of their own from a range; another run on this machine gets another one.
        replicas = 20_000 + secrets.randbelow(10) * 1000
        haproxy = self.directory / "h"  # its sockets get 70 more characters and may have 97
        haproxy.mkdir(exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "EAGLERAY_"))}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            **FAST_PATH,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            # Ray would start a Python process for each CPU that it counts, many more than this machine has or a run needs.
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas + 500),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(replicas + 501),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(replicas + 999),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": fallback,
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": fallback_grpc,
            "RAY_SERVE_HAPROXY_METRICS_PORT": metrics,
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats_port),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            runtime_names.ALLOW_FILE_URIS_ENV: "1",
            **self._environment,
        }

    def _last_words(self) -> str:
        try:
            lines = (self.directory / "head.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it left no word"
        return " ".join(lines[-3:]) or "it left no word"


def _processes_of(session: int, directory: str) -> list[int]:
    """Processes of the head's session, and those that left it but have its environment, which names our directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session or directory.encode() in (entry / "environ").read_bytes():
                found.append(pid)
    return [pid for pid in found if pid != os.getpid()]
