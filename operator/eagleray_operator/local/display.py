"""Shows a run while it goes on: bars and conditions on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from eagleray_operator.local.view import View

STEP_PERCENT = 20
"""A plain line of progress is written each time that a job has come this much further."""


class Display:
    """Told of views as often as they change; says what is new."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """The console decides by itself whether it is a terminal."""
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._clock = clock
        self._began = clock()
        self._last: dict[str, View] = {}
        self._shown_percent: dict[str, int] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(finished_text="*"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[words]}", markup=False),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, text: str, style: str = "") -> None:
        """Write a line above the bars."""
        self.console.print(Text(f"{self._clock() - self._began:6.1f} s  {text}", style=style))

    def show(self, views: list[View]) -> None:
        """Say what has changed since the last time."""
        for view in views:
            before = self._last.get(view.title)
            self._last[view.title] = view
            if self._progress is not None:
                self._update_bar(view)
            if view.estimate and (before is None or before.estimate != view.estimate):
                self.say(f"{view.title}  needs {view.estimate}")
            if view.reason and (before is None or (view.reason, view.good) != (before.reason, before.good)):
                self._tell(view)
            elif self._progress is None and view.percent is not None and not view.final:
                self._tell_progress(view)

    def _tell(self, view: View) -> None:
        self._shown_percent[view.title] = view.percent or 0
        style = "green" if view.good else "red" if view.failing or view.final else ""
        words = {"TrainingJob": "Succeeded", "ModelDeployment": "Ready"}[view.kind] if view.good else view.reason
        self.say(f"{view.title}  {words}: {view.message or view.reason}", style)

    def _tell_progress(self, view: View) -> None:
        percent = view.percent or 0
        if percent - self._shown_percent.get(view.title, 0) >= STEP_PERCENT:
            self._shown_percent[view.title] = percent
            left = f", {view.seconds_left} s left" if view.seconds_left else ""
            self.say(f"{view.title}  {percent} %{left}: {view.message}")

    def _update_bar(self, view: View) -> None:
        if self._progress is None:
            return
        if view.title not in self._bars:
            total = 100 if view.percent is not None else None
            self._bars[view.title] = self._progress.add_task(view.title, total=total, words="")
        left = f", {view.seconds_left} s left" if view.seconds_left else ""
        words = view.url or (f"{view.percent} %{left}" if view.percent is not None and not view.final else view.reason)
        bar = self._bars[view.title]
        if view.final:
            self._progress.update(bar, total=100, completed=100 if view.good else view.percent or 0, words=words)
        else:
            self._progress.update(bar, completed=view.percent or 0, words=words)
