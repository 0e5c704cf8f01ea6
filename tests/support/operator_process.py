"""The operator as a process of its own, against whatever apiserver a kubeconfig names; run as a script it is that process."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import aiohttp

from eagleray_operator.cluster.port import ProbeResult

REPOSITORY = Path(__file__).parents[2]
MODELS = "EAGLERAY_TEST_MODELS"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class OperatorProcess:
    """Starts and ends the operator; ports are free ones of this machine."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        settings: str,
        before_start: Callable[[], object] = lambda: None,
        models: str | None = None,
    ) -> None:
        """`models` is where to ask deployments, for want of a network in which their own names lead anywhere."""
        self._models = models
        self._before_start = before_start
        self._folder = folder
        self._kubeconfig = kubeconfig
        self.settings = folder / "settings.json"
        self.settings.write_text(settings)
        self.log = folder / "operator.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = (0, 0)

    def start(self) -> None:
        self._before_start()
        self._ports = free_ports()
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig), "PYTHONPATH": str(REPOSITORY)}
        if self._models is not None:
            environment[MODELS] = self._models
        command = [sys.executable, "-m", "tests.support.operator_process", str(self.settings), *map(str, self._ports)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log)

    @property
    def reports_port(self) -> int:
        return self._ports[1]

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, as the kubelet does."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)

    def report(self, body: str, token: str | None) -> int:
        """Send a report as a pod does; returns the HTTP status."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = f"http://127.0.0.1:{self._ports[1]}/v1/reports"
        request = urllib.request.Request(url, body.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def metrics(self) -> str:
        return self._get("/metrics")

    def seconds_to_answer(self) -> float:
        """How long the kubelet would wait to hear that the process lives."""
        began = time.monotonic()
        self._get("/healthz")
        return time.monotonic() - began

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[0]}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def until_leading(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if "eagleray_leader 1.0" in self.metrics():
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"does not lead after {seconds} s: {self.log.read_text()[-3000:]}")

    def writes(self) -> dict[str, int]:
        """Writes so far by verb and kind, leases left out."""
        found: dict[str, int] = {}
        for line in self.metrics().splitlines():
            if line.startswith("eagleray_api_requests_total{"):
                labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
                verb, kind = labels["verb"].strip('"'), labels["kind"].strip('"')
                if verb in WRITES and kind not in ("Lease", "TokenReview"):
                    key = f"{verb} {kind}"
                    found[key] = found.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
        return found


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


class _Models:
    """Asks one server for all deployments."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session: aiohttp.ClientSession | None = None

    def url(self, namespace: str, deployment: str) -> str:
        return f"http://{deployment}.{namespace}.svc.cluster.local"

    async def probe(self, namespace: str, deployment: str, revision: str, *, active: bool) -> ProbeResult:
        self._session = self._session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3))
        query = {"active": "true"} if active else {}
        try:
            async with self._session.get(f"{self._base}/{namespace}/{deployment}/{revision}", params=query) as answer:
                return ProbeResult(**await answer.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            return ProbeResult(ready=False, message=str(error))


if __name__ == "__main__":
    from eagleray_operator.process import main
    from eagleray_operator.reconcilers import trainingjob

    models = None
    if MODELS in os.environ:
        models = _Models(os.environ[MODELS])
        # An operator stands frozen for longer than the 60 s that this is, and the driver of a finished job waits as long for its
        # answer: what then becomes of the RayJob would be chance.
        trainingjob.LEFT_OVER_SECONDS = 600
    ports = {"probes_port": int(sys.argv[2]), "reports_port": int(sys.argv[3])}
    raise SystemExit(main(Path(sys.argv[1]), host="127.0.0.1", addresses=models, **ports))
