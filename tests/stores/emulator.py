"""A program that plays a cloud's store, on a port of its own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.layout import cache_folder
from tests.cluster.modules import Builder, GoModule

STARTS_WITHIN_SECONDS = 60


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def built(module: GoModule, program: str) -> Path:
    """A program of a Go module, built now if it is missing and there is a Go compiler."""
    go = shutil.which("go")
    builder = Builder(cache_folder(), lambda: str(go), lambda line: None)
    if builder.missing((module,)):
        if go is None:
            pytest.skip(f"{program} cannot be built: install Go")
        builder.build((module,))
    return builder.location(module).program(program)


class Emulator:
    """Starts and ends the program, an empty store at each start."""

    def __init__(self, command: Callable[[int], list[str]]) -> None:
        self.port = free_port()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command(self.port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + STARTS_WITHIN_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self._process.args} does not answer within {STARTS_WITHIN_SECONDS} s")

    def stop(self) -> None:
        if self._process is not None:
            # At once: it has nothing to keep, and Azurite would wait for its clients first.
            self._process.kill()
            self._process.wait()
            self._process = None
