"""A Ray of our own on this machine: loopback dashboard, a token, a folder that goes away; it ends with its parent.

`ray stop` is never called: it would end every Ray of the machine. The child leads a process group of its own, for Ray's
reaper kills the whole group.
"""

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAST_PATH = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}


START_SECONDS = 120


@dataclass
class PrivateRay:
    """A running Ray: its dashboard, its address for drivers, and the environment that reaches it."""

    dashboard: str
    address: str
    token: str
    environment: dict[str, str]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the dashboard; the parsed answer, or its text."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.dashboard}{path}", data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            text = response.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def serve(self, applications: list[dict[str, Any]], port: int, seconds: float = 240) -> None:
        """Deploy these applications, and none but these, and wait until all of them run."""
        document = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": port},
            "applications": applications,
        }
        self.call("PUT", "/api/serve/applications/", document)
        wanted = {application["name"] for application in applications}
        deadline = time.monotonic() + seconds
        while True:
            found = self.call("GET", "/api/serve/applications/")["applications"]
            statuses = {name: found.get(name, {}).get("status") for name in wanted}
            if set(statuses.values()) <= {"RUNNING"}:
                return
            if "DEPLOY_FAILED" in statuses.values() or time.monotonic() > deadline:
                raise AssertionError(f"{statuses}\n{json.dumps(found, indent=1)}")
            time.sleep(0.2)


def run_python(*arguments: str, environment: dict[str, str], seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments; one that does not end in time is ended, and the failure tells where its threads stood."""
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment | {"PYTHONFAULTHANDLER": "1"}, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            output, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)
            errors = child.communicate()[1]
            raise AssertionError(f"{' '.join(arguments)[:100]}: no end after {seconds:.0f} s\n{errors[-6000:]}") from None
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


@contextlib.contextmanager
def private_ray(cpus: int = 2, environment: dict[str, str] | None = None, python: str = sys.executable) -> Iterator[PrivateRay]:
    """Start a Ray and end it again."""
    folder = Path(tempfile.mkdtemp(prefix="er"))
    token = secrets.token_hex(32)
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        # Processes are started as they are needed.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        **_ports_and_paths(folder),
        **(environment or {}),
    }
    with (folder / "stderr").open("w") as stderr:
        child = subprocess.Popen(
            [python, __file__, str(folder), str(cpus)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            text=True,
        )
    try:
        started, _, _ = select.select([child.stdout], [], [], START_SECONDS)
        line = child.stdout.readline() if started else ""
        if not line:
            raise AssertionError((folder / "stderr").read_text()[-3000:])
        told = json.loads(line)
        ray = PrivateRay(told["dashboard"], told["address"], token, env | {"RAY_ADDRESS": told["address"]})
        _wait_for_serve_api(ray)
        yield ray
    finally:
        child.stdin.close()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _ports_and_paths(folder: Path) -> dict[str, str]:
    """Serve's fixed ports and paths, moved: two Rays with HAProxy on one machine would take them from each other."""
    names = ("FALLBACK_PROXY_HTTP_PORT", "FALLBACK_PROXY_GRPC_PORT", "HAPROXY_METRICS_PORT", "HAPROXY_STATS_PORT")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        ports = {f"RAY_SERVE_{name}": str(taken.getsockname()[1]) for name, taken in zip(names, sockets, strict=True)}
    # Replicas take ports of a range; another process that starts now takes another range.
    first = 20_000 + 1_000 * (os.getpid() % 10) + secrets.randbelow(900)
    return ports | {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 49),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + 50),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + 99),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _wait_for_serve_api(ray: PrivateRay) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ray.call("GET", "/api/serve/applications/")
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _child(folder: str, cpus: int) -> None:
    # Where stdout is a pipe to the parent nothing but the addresses may go there.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import ray

    context = ray.init(
        num_cpus=cpus,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=0,
        _temp_dir=folder,
        log_to_driver=False,
    )
    url = context.dashboard_url
    print(json.dumps({"dashboard": f"http://{url}", "address": context.address_info["gcs_address"]}), file=out, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]))
