"""`eagleray run` as a person has it: a process, its output, its end. Each test starts a private Ray."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.ray

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"


class Command:
    """The running command, with what it has said so far in a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._output = folder / "output"

        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eagleray_operator.cli", "run", *arguments], stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def until(self, words: str) -> None:
        wait(lambda: words in self.output or self.process.poll() is not None)
        assert words in self.output, self.output

    def directory(self) -> Path:
        """The directory of the run: its head's command line names it."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                if parent(int(entry.name)) == self.process.pid and b"local.head" in (command := (entry / "cmdline").read_bytes()):
                    return Path(json.loads(command.split(b"\0")[-2])["directory"])
        raise LookupError("the head does not run yet")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def of_run(directory: Path) -> list[int]:
    """Processes that have the directory in their command line or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(directory).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def wait(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands = []

    def start(*arguments: str) -> Command:
        commands.append(Command(tmp_path, *arguments))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.process.terminate()
        command.process.wait(60)


def ask(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.load(answer)


def test_a_model_is_trained_and_served_until_ctrl_c_and_nothing_is_left(run: Callable[..., Command]) -> None:
    command = run(str(SAMPLES / "line.yaml"))
    command.until("Ctrl-C ends it.")
    directory = command.directory()
    assert directory.stat().st_mode & 0o77 == 0
    [url] = re.findall(r"serve at (http://127\.0\.0\.1:\d+/line)", command.output)
    answer = ask(f"{url}/v2/models/line/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]}]})
    assert 8.5 < answer["outputs"][0]["data"][0] < 9.5
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(30) == 0, command.output
    assert "Traceback" not in command.output
    assert not directory.exists()
    assert of_run(directory) == []


@pytest.mark.slow
def test_ray_ends_by_itself_when_the_command_is_killed(run: Callable[..., Command]) -> None:
    directory = in_the_middle(command := run(str(SAMPLES / "line.yaml")))
    assert of_run(directory)
    command.process.kill()
    wait(lambda: not of_run(directory), 90)
    wait(lambda: not directory.exists(), 30)


def test_ctrl_c_in_the_middle_ends_everything_too(run: Callable[..., Command]) -> None:
    directory = in_the_middle(command := run(str(SAMPLES / "line.yaml"), "--exit"))
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(60) == 130, command.output
    assert not directory.exists()
    assert of_run(directory) == []


def in_the_middle(command: Command) -> Path:
    """Wait until the command's Ray starts; returns the directory of the run."""
    command.until("Starting")
    wait(lambda: "local.head" in " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children(command.process.pid)))
    return command.directory()


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if parent(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found


def test_a_file_that_is_wrong_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text((SAMPLES / "line.yaml").read_text().replace("optimizer", "optimzer").replace("epochs: 1000", "epochs: many"))
    ended = subprocess.run(
        [sys.executable, "-m", "eagleray_operator.cli", "run", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert ended.returncode == 1
    assert "wrong.yaml:11: TrainingJob line: spec.training.optimzer: unknown field, did you mean optimizer?" in ended.stdout
    assert 'wrong.yaml:10: TrainingJob line: spec.training.epochs: must be a whole number, not "many"' in ended.stdout
    assert "Ray" not in ended.stdout
