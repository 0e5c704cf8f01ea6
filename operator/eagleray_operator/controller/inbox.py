"""Reports that are not in a status yet."""

import asyncio
import time
from dataclasses import dataclass

from eagleray_runtime.contract.reports import ProgressReport, Report


@dataclass(frozen=True)
class Taken:
    """What one reconcile takes from the inbox."""

    reports: tuple[Report, ...]


class Inbox:
    """Keeps the newest progress and every result and failure of a resource, by its UID, until a status write has them."""

    def __init__(self, progress_interval: float) -> None:
        """`progress_interval`: least seconds between two status writes of mere progress of one resource."""
        self._interval = progress_interval
        self._reports: dict[str, list[Report]] = {}
        self._waiting: dict[str, list[tuple[Report, asyncio.Future[None]]]] = {}
        self._last_write: dict[str, float] = {}

    def put(self, uid: str, report: ProgressReport) -> float:
        """Keep progress in the place of what was kept before; returns the seconds until it may be written."""
        kept = [known for known in self._reports.get(uid, []) if not isinstance(known, ProgressReport)]
        before = [known for known in self._reports.get(uid, []) if isinstance(known, ProgressReport)]
        self._reports[uid] = [*kept, report]
        due = self._last_write.get(uid, 0.0) + self._interval - time.monotonic()
        changed_stage = bool(before) and before[-1].stage is not report.stage
        return 0.0 if changed_stage else max(0.0, due)

    def put_and_wait(self, uid: str, report: Report) -> asyncio.Future[None]:
        """Keep a result or failure; the future is done when a status is written that it was taken into, or none ever will be."""
        # Sent again, because the answer was late, it takes its own place.
        kept = [known for known in self._reports.get(uid, []) if type(known) is not type(report)]
        self._reports[uid] = [*kept, report]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = [(known, waiter) for known, waiter in self._waiting.get(uid, []) if not waiter.done()]
        self._waiting[uid] = [*waiting, (report, future)]
        return future

    def take(self, uid: str) -> Taken:
        """What there is now; it stays until `written`."""
        return Taken(tuple(self._reports.get(uid, ())))

    def written(self, uid: str, taken: Taken) -> None:
        """Drop what is in the status now."""
        if not taken.reports:
            return
        self._last_write[uid] = time.monotonic()
        ids = {id(report) for report in taken.reports}
        rest = [report for report in self._reports.get(uid, []) if id(report) not in ids]
        if rest:
            self._reports[uid] = rest
        else:
            self._reports.pop(uid, None)
        waiting = []
        for report, future in self._waiting.pop(uid, []):
            if id(report) in ids:
                if not future.done():
                    future.set_result(None)
            else:
                waiting.append((report, future))
        if waiting:
            self._waiting[uid] = waiting

    def forget(self, uid: str) -> None:
        """Drop what was kept of a resource that is gone."""
        self._reports.pop(uid, None)
        self._last_write.pop(uid, None)
        for _, future in self._waiting.pop(uid, []):
            if not future.done():
                future.set_result(None)
