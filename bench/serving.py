"""Requests per second of one small model: our serving, the same callable on bare uvicorn, and Ray Serve's defaults.

    python -m bench.serving [--seconds 4] [--rounds 3]

Everything runs on this machine and on loopback, with the same load generator, in turns, so that a noisy neighbour meets
all variants alike; the figures to keep are the ratios. Two private Rays are started (the fast path is chosen by environment
variables of the whole Ray) and end with the program.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.jobs import job
from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.contract.names import ALLOW_FILE_URIS_ENV, SERVE_MIDDLEWARE, SERVING_IMPORT_PATH
from eagleray_runtime.reports import Reporter
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.protocol import OpenInference
from eagleray_runtime.training import driver
from eagleray_runtime.training.progress import Progress
from tests.runtime_ray.private_ray import FAST_PATH, private_ray

COLUMNS, CLASSES = 64, 10


class NoMeter:
    def answered(self, status: int, seconds: float) -> None:
        pass


def bare_application() -> OpenInference:
    """For uvicorn's --factory."""
    return OpenInference(load_model(ServingConfig.model_validate_json(os.environ["BENCH_CONFIG"])), NoMeter())


def serve_defaults(args: dict[str, Any]) -> Any:
    """The same callable as a Serve deployment with nothing set."""
    from ray import serve

    def application() -> OpenInference:
        return OpenInference(load_model(ServingConfig.model_validate(args)), NoMeter())

    return serve.deployment(serve.ingress(application)(), name="Model").bind()


def train_model(folder: Path) -> dict[str, Any]:
    """A 64-256-256-10 perceptron; the serving configuration as JSON values."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {f"x{index}": random.normal(size=200) for index in range(COLUMNS)}
    np.savez(folder / "rows.npz", **columns, y=np.arange(200) % CLASSES)
    config = job(
        folder,
        data={"configMapRef": {"name": "rows", "key": "rows.npz"}, "target": "y"},
        dataFile=str(folder / "rows.npz"),
        model={"family": "MultilayerPerceptron", "multilayerPerceptron": {"hiddenLayers": [256, 256]}},
        training={"epochs": 1},
    )
    driver.run(config, Progress(config, Reporter(None)))
    return {
        "resource": config.resource.model_dump(mode="json") | {"kind": "ModelDeployment"},
        "revision": "1",
        "name": "m",
        "model": {"uri": f"file://{folder}/model"},
        "engine": "NumPy",
    }


class Connection(asyncio.Protocol):
    """Sends one request after the other over a kept connection and times each answer."""

    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self.request, self.until, self.latencies = request, until, latencies
        self.buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.finish(RuntimeError(self.buffer[:500].decode("latin-1")))
            return
        self.latencies.append(now - self.sent_at)
        self.buffer = b""
        if now >= self.until:
            self.finish()
        else:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.finish(error or ConnectionError("the server closed the connection"))

    def finish(self, error: Exception | None = None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
            self.transport.close()


async def load(port: int, connections: int, seconds: float, host: str = "127.0.0.1") -> list[float]:
    """Latencies in seconds of what `connections` clients got answered in so many seconds."""
    row = np.random.default_rng(1).normal(size=COLUMNS).round(4).tolist()
    inputs = [{"name": "features", "shape": [1, COLUMNS], "datatype": "FP64", "data": row}]
    body = json.dumps({"inputs": inputs}).encode()
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    protocols = [
        (await loop.create_connection(lambda: Connection(request, until, latencies), host, port))[1] for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for protocol in protocols))
    return latencies


def generate(port: int, connections: int, seconds: float, host: str = "127.0.0.1") -> list[float]:
    """Run the generator in a process of its own, as a client would be."""
    arguments = [sys.executable, "-m", "bench.serving", "--generate", host, str(port), str(connections), str(seconds)]
    found: list[float] = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def bare_uvicorn(config: dict[str, Any], port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "bench.serving:bare_application", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--no-access-log", "--log-level", "warning"],
        # One thread for NumPy, as Ray gives a replica of one CPU.
        env=os.environ | {"BENCH_CONFIG": json.dumps(config), "OMP_NUM_THREADS": "1"},
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None:
                raise RuntimeError("uvicorn did not start")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_for_replica(port: int) -> None:
    """The first answers come from Serve's fallback proxy, about a second long: ask until requests are as fast as they get."""
    generate(port, 4, 3.0)


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    os.environ[ALLOW_FILE_URIS_ENV] = "1"
    ports = {name: free_port() for name in ("uvicorn", "eagleray", "defaults")}
    fast = {**FAST_PATH, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": SERVE_MIDDLEWARE}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = train_model(folder)
        stack.enter_context(bare_uvicorn(config, ports["uvicorn"]))
        for name, environment, import_path in (
            ("eagleray", fast, SERVING_IMPORT_PATH),
            ("defaults", {}, "bench.serving:serve_defaults"),
        ):
            path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
            ray = stack.enter_context(private_ray(2, {**environment, "PYTHONPATH": path}))
            ray.serve([{"name": "model", "route_prefix": "/", "import_path": import_path, "args": config}], ports[name])
        rates: dict[str, list[float]] = {name: [] for name in ports}
        single: dict[str, list[float]] = {name: [] for name in ports}
        for port in ports.values():
            wait_for_replica(port)
        for _ in range(rounds):
            for name, port in ports.items():
                rates[name].append(len(generate(port, 32, seconds)) / seconds)
                single[name].append(statistics.median(generate(port, 1, seconds / 2)) * 1000)
    rate = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "requests_per_second_32_connections": {name: round(value) for name, value in rate.items()},
        "median_milliseconds_1_connection": {name: round(statistics.median(values), 3) for name, values in single.items()},
        "of_bare_uvicorn": round(rate["eagleray"] / rate["uvicorn"], 3),
        "times_serve_defaults": round(rate["eagleray"] / rate["defaults"], 1),
        "rounds": {name: [round(value) for value in values] for name, values in rates.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load, in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant has its turn")
    parser.add_argument("--generate", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        host, port, connections, seconds = arguments.generate
        print(json.dumps(asyncio.run(load(int(port), int(connections), float(seconds), host))))
        return
    result = measure(arguments.seconds, arguments.rounds)
    print(json.dumps(result, indent=2))
    # The targets of the product; a run that misses one says so by its exit status.
    sys.exit(0 if result["of_bare_uvicorn"] >= 0.25 and result["times_serve_defaults"] >= 8 else 1)


if __name__ == "__main__":
    main()
