import io
from typing import Any

import pytest
from rich.console import Console

from eagleray_operator.local.display import Display
from eagleray_operator.local.view import View, view


def job(status: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    metadata = {"name": "iris", "namespace": "default", "generation": generation}
    return {"kind": "TrainingJob", "metadata": metadata, "status": {"observedGeneration": 1, **status}}


def deployment(status: dict[str, Any], generation: int = 1) -> dict[str, Any]:
    return {**job(status, generation), "kind": "ModelDeployment"}


def told(type_: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": message}


RUNNING = [told("Succeeded", "Unknown", "Training"), told("Progressing", "True", "Training", "Epoch 3 of 20")]
SUCCEEDED = [told("Succeeded", "True", "Completed", "Saved it."), told("Progressing", "False", "Completed")]
FAILED = [told("Succeeded", "False", "DataInvalid", "No column."), told("Progressing", "False", "DataInvalid")]
HELD_UP = [told("Accepted", "False", "ReferenceNotFound"), told("Progressing", "False", "ReferenceNotFound")]
SUSPENDED = [told("Succeeded", "Unknown", "SuspendedByUser"), told("Suspended", "True", "SuspendedByUser")]
READY = [told("Ready", "True", "Serving"), told("Progressing", "False", "RolledOut")]
NOT_READY = [told("Ready", "False", "DigestMismatch"), told("Progressing", "False", "DigestMismatch")]
OFF = [told("Ready", "False", "SwitchedOff"), told("Progressing", "False", "SwitchedOff")]
STARTING = [told("Ready", "Unknown", "Starting"), told("Progressing", "True", "Starting")]
PREVIOUS = [told("Ready", "True", "ServingPrevious"), told("Progressing", "False", "DigestMismatch")]


@pytest.mark.parametrize(
    ("manifest", "good", "final", "failing"),
    [
        pytest.param(job({}), False, False, False, id="a new job"),
        pytest.param(job({"conditions": RUNNING}), False, False, False, id="a running job"),
        pytest.param(job({"conditions": SUCCEEDED}), True, True, False, id="a job that succeeded"),
        pytest.param(job({"conditions": FAILED}), False, True, False, id="a job that failed"),
        pytest.param(job({"conditions": HELD_UP}), False, False, True, id="a job that lacks something"),
        pytest.param(job({"conditions": SUSPENDED}), False, True, False, id="a suspended job"),
        pytest.param(deployment({"conditions": STARTING}), False, False, False, id="a deployment that starts"),
        pytest.param(deployment({"conditions": READY}), True, True, False, id="a deployment that is ready"),
        pytest.param(deployment({"conditions": READY}, 2), True, False, False, id="one that was ready before its spec changed"),
        pytest.param(deployment({"conditions": NOT_READY}), False, False, True, id="a deployment that cannot start"),
        pytest.param(deployment({"conditions": PREVIOUS}), True, False, True, id="a deployment whose new revision cannot start"),
        pytest.param(deployment({"conditions": OFF}), False, True, True, id="a deployment that is switched off"),
    ],
)
def test_a_view_tells_good_from_bad_and_done_from_under_way(
    manifest: dict[str, Any], good: bool, final: bool, failing: bool
) -> None:
    seen = view(manifest)
    assert (seen.good, seen.final, seen.failing) == (good, final, failing)


class Screen:
    def __init__(self, *, terminal: bool) -> None:
        self.text = io.StringIO()
        console = Console(file=self.text, force_terminal=terminal, width=200, highlight=False)
        self.display = Display(console, clock=lambda: 0.0)

    @property
    def lines(self) -> list[str]:
        return [line.strip().removeprefix("0.0 s").strip() for line in self.text.getvalue().splitlines()]


def training(percent: int, reason: str = "Training") -> View:
    message = f"Epoch {percent} of 100 [bold]"
    return View("TrainingJob", "default", "iris", reason, message, False, False, False, percent=percent, seconds_left=7)


def test_without_a_terminal_only_news_is_written_line_by_line() -> None:
    screen = Screen(terminal=False)
    with screen.display:
        for percent in (0, 0, 10, 19, 20, 39, 41):
            screen.display.show([training(percent)])
        screen.display.show([View("TrainingJob", "default", "iris", "Completed", "Saved.", True, True, False, percent=100)])
    assert screen.lines == [
        "TrainingJob iris  Training: Epoch 0 of 100 [bold]",
        "TrainingJob iris  20 %, 7 s left: Epoch 20 of 100 [bold]",
        "TrainingJob iris  41 %, 7 s left: Epoch 41 of 100 [bold]",
        "TrainingJob iris  Succeeded: Saved.",
    ]


def test_on_a_terminal_there_are_bars_with_percent_and_time_left() -> None:
    screen = Screen(terminal=True)
    ready = View("ModelDeployment", "team", "iris", "Serving", "1 of 1", True, True, False, url="http://127.0.0.1:1/iris")
    with screen.display:
        screen.display.show([training(42), ready])
    written = screen.text.getvalue()
    assert "42 %, 7 s left" in written
    assert "http://127.0.0.1:1/iris" in written
    assert "ModelDeployment team/iris" in written


def test_what_a_job_needs_is_said_once_and_again_when_it_is_known_better() -> None:
    screen = Screen(terminal=False)
    needs = {"parameters": 4810, "memory": "153Mi", "disk": "1Mi", "durationSeconds": 12.3}
    later = needs | {"durationSeconds": 15.0, "errorPercent": -20.4, "gpuMemory": "700Mi"}
    with screen.display:
        for estimate in (None, needs, needs, later):
            status = {"progress": {"percent": 0}} | ({"estimate": estimate} if estimate else {})
            screen.display.show(
                [view({"kind": "TrainingJob", "metadata": {"name": "iris", "namespace": "default"}, "status": status})]
            )
    assert screen.lines == [
        "TrainingJob iris  needs 4810 parameters, 153Mi of memory, 1Mi in the store, about 12.3 s",
        "TrainingJob iris  needs 4810 parameters, 153Mi of memory, 700Mi of GPU memory, 1Mi in the store, about 15 s, "
        "which was -20 % off",
    ]
