"""Reports that are not in a status yet."""

import asyncio
import time
from dataclasses import dataclass

from eagleray_operator.cluster.port import Ref
from eagleray_runtime.contract.reports import ProgressReport, Report


@dataclass(frozen=True)
class Taken:
    """What one reconcile takes from the inbox."""

    reports: tuple[Report, ...]


class Inbox:
    """Keeps the newest progress and every result and failure of a resource until a status write has them."""

    def __init__(self, progress_interval: float) -> None:
        """`progress_interval`: least seconds between two status writes of mere progress of one resource."""
        self._interval = progress_interval
        self._reports: dict[Ref, list[Report]] = {}
        self._waiting: dict[Ref, list[tuple[Report, asyncio.Future[None]]]] = {}
        self._last_write: dict[Ref, float] = {}

    def put(self, ref: Ref, report: ProgressReport) -> float:
        """Keep progress in the place of what was kept before; returns the seconds until it may be written."""
        kept = [known for known in self._reports.get(ref, []) if not isinstance(known, ProgressReport)]
        before = [known for known in self._reports.get(ref, []) if isinstance(known, ProgressReport)]
        self._reports[ref] = [*kept, report]
        due = self._last_write.get(ref, 0.0) + self._interval - time.monotonic()
        changed_stage = bool(before) and before[-1].stage is not report.stage
        return 0.0 if changed_stage else max(0.0, due)

    def put_and_wait(self, ref: Ref, report: Report) -> asyncio.Future[None]:
        """Keep a result or failure; the future is done when it is in the status."""
        self._reports.setdefault(ref, []).append(report)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(ref, []).append((report, future))
        return future

    def take(self, ref: Ref) -> Taken:
        """What there is now; it stays until `written`."""
        return Taken(tuple(self._reports.get(ref, ())))

    def written(self, ref: Ref, taken: Taken) -> None:
        """Drop what is in the status now."""
        if not taken.reports:
            return
        self._last_write[ref] = time.monotonic()
        ids = {id(report) for report in taken.reports}
        rest = [report for report in self._reports.get(ref, []) if id(report) not in ids]
        if rest:
            self._reports[ref] = rest
        else:
            self._reports.pop(ref, None)
        waiting = []
        for report, future in self._waiting.pop(ref, []):
            if id(report) in ids:
                if not future.done():
                    future.set_result(None)
            else:
                waiting.append((report, future))
        if waiting:
            self._waiting[ref] = waiting

    def forget(self, ref: Ref) -> None:
        """Drop what was kept of a resource that is gone."""
        self._reports.pop(ref, None)
        self._last_write.pop(ref, None)
        for _, future in self._waiting.pop(ref, []):
            future.cancel()
