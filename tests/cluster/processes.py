"""Daemons that outlive the command which started them, found again by record and never by name."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import launch
from .errors import ClusterError
from .waiting import wait_until


@dataclass(frozen=True)
class Identity:
    """What a process is recognised by: its id may be somebody else's by now, the three together may not."""

    pid: int
    start_time: int
    boot_id: str

    def alive(self) -> bool:
        return self.boot_id == launch.boot_id() and launch.start_time(self.pid) == self.start_time


@contextlib.contextmanager
def _handle(identity: Identity) -> Iterator[int | None]:
    """Open the process so that a signal can only ever reach that very one, whatever happens to its id meanwhile."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if identity.alive() else None
    finally:
        os.close(descriptor)


def end(identity: Identity, *, grace: float) -> None:
    """Ask a process to end, insist after `grace` seconds, and return only when it is really gone.

    Control-plane parts hold their ports until the very end: a start that comes too early meets a port in use.
    """
    with _handle(identity) as descriptor:
        if descriptor is None:
            return
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            if number == signal.SIGTERM and grace <= 0:
                continue
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], seconds)[0]:
                return
    raise ClusterError(f"process {identity.pid} does not end, not even when killed")


@dataclass(frozen=True)
class Daemon:
    """One long-running process with a record file and a log."""

    name: str
    records: Path
    logs: Path

    @property
    def record(self) -> Path:
        return self.records / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    def identity(self) -> Identity | None:
        """Read the record; None when there is none or it is unreadable (a machine that lost power mid-write)."""
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            return Identity(int(content["pid"]), int(content["start_time"]), str(content["boot_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def alive(self) -> bool:
        identity = self.identity()
        return identity is not None and identity.alive()

    def start(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Start unless it already runs, detached from the terminal so that Ctrl-C does not reach it."""
        if self.alive():
            return
        # A stale record would make the new process look dead until it has written its own.
        self.record.unlink(missing_ok=True)
        self.records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", str(Path(launch.__file__)), str(self.record)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                # All are written in Go. With its collector's default of 100 an apiserver takes half as much CPU again, measured.
                env={"GOGC": "400", **(os.environ if environment is None else environment)},
            )
        wait_until(self.record.exists, f"start of {self.name}", seconds=20)
        # The object would warn about a child still running when it is collected; the child is meant to.
        process.returncode = 0

    def why_not_alive(self) -> str | None:
        """Return a sentence for the error message when the process has ended, None while it runs."""
        if self.identity() is None or self.alive():
            return None
        return f"{self.name} has ended, see {self.log}: {self.last_words()}"

    def last_words(self, lines: int = 3) -> str:
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return " | ".join(text.strip().splitlines()[-lines:])[-600:]

    def stop(self, *, grace: float) -> None:
        """End the process if it is ours and runs; the record goes last, so an interrupted stop can be repeated."""
        identity = self.identity()
        if identity is not None:
            end(identity, grace=grace)
        self.record.unlink(missing_ok=True)


def recorded(records: Path, logs: Path) -> list[Daemon]:
    """List the daemons that have a record, whatever version of this package started them."""
    return [Daemon(path.stem, records, logs) for path in sorted(records.glob("*.json"))]
