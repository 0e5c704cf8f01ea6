"""Telling the operator what happens: progress never delays training, results and failures are delivered for sure."""

import http.client
import logging
import math
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from eagleray_runtime.contract.names import REPORT_TOKEN_PATH_ENV
from eagleray_runtime.contract.reports import REPORT, FailureReport, ProgressReport, ResultReport

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
REQUEST_SECONDS = 10.0
DELIVERY_SECONDS = 600.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
GONE, SUPERSEDED, NOT_THE_LEADER = 404, 409, 503
LEADER_TRIES = 6
"""The Service gives each connection one of the operator's replicas, of which one leads: of two, one report in 64 misses it."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody else does the work
    """Nobody waits for this attempt any more: its resource is gone, or a newer attempt has taken over."""


class UndeliveredError(Exception):
    """A result or failure was not accepted in time, or refused as malformed."""


class Answer(NamedTuple):
    """What the operator said; status 0 means that it could not be asked."""

    status: int
    words: str


class Reporter:
    """Client of the operator's reports endpoint; without a URL it does nothing.

    A background thread sends progress, each report once it is due: of those that pile up meanwhile only the newest counts.
    """

    def __init__(
        self,
        url: str | None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._token_path = environ.get(REPORT_TOKEN_PATH_ENV)
        self._clock, self._pause = clock, pause
        self._wake = threading.Condition()
        self._newest: ProgressReport | None = None
        self._newest_at = math.inf
        self._busy = False
        self._closed = False
        self._next_at = -math.inf
        self._told_stage: object = None
        self._stopped: str | None = None
        self._thread: threading.Thread | None = None

    def due(self, stage: object) -> bool:
        """Whether a progress report would be sent now; ask before building one in a fast loop.

        Raises:
            Stopped: the operator said that nobody waits for this attempt.
        """
        if self._stopped is not None:
            raise Stopped(self._stopped)
        if self._url is None:
            return False
        return stage is not self._told_stage or self._clock() >= self._next_at

    def progress(self, report: ProgressReport) -> None:
        """Send a progress report as soon as it is due, unless a newer one comes before; returns at once.

        Raises:
            Stopped: the operator said that nobody waits for this attempt.
        """
        is_due = self.due(report.stage)
        if self._url is None:
            return
        with self._wake:
            due_at = self._next_at
            if is_due:
                due_at, self._told_stage = self._clock(), report.stage
                self._next_at = due_at + PROGRESS_SECONDS
            # It takes the place of one that waits to be sent, also in time.
            self._newest, self._newest_at = report, min(due_at, self._newest_at)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_progress, name="eagleray-reports", daemon=True)
                self._thread.start()
            self._wake.notify_all()

    def flush(self) -> None:
        """Wait until the progress report that is due is sent or given up."""
        with self._wake:
            self._wake.wait_for(lambda: self._newest_at > self._clock() and not self._busy, timeout=2 * REQUEST_SECONDS)

    def deliver(self, report: ResultReport | FailureReport) -> None:
        """Send a report until it is accepted, with growing pauses, at most 600 seconds long.

        Raises:
            Stopped: nobody waits for this attempt any more.
            UndeliveredError: it was not accepted in time, or refused as malformed.
        """
        if self._url is None:
            return
        self.close()
        body = REPORT.dump_json(report, by_alias=True)
        deadline = self._clock() + DELIVERY_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            answer = self._post(body)
            if 200 <= answer.status < 300:
                return
            if answer.status in (GONE, SUPERSEDED):
                raise Stopped(answer.words)
            if answer.status == 422:
                raise UndeliveredError(f"the operator refused the report: {answer.words}")
            if self._clock() + pause > deadline:
                raise UndeliveredError(f"the operator did not accept the report in {DELIVERY_SECONDS:.0f} s: {answer.words}")
            log.info("report not accepted yet: %s", answer.words)
            self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def close(self) -> None:
        """Send no progress any more; what is under way is finished first, so that no older report arrives after a result."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _due_report(self) -> ProgressReport | None:
        """Wait for the newest report to be due; None once there is none to send any more."""
        with self._wake:
            while not self._closed and (left := self._newest_at - self._clock()) > 0:
                self._wake.wait(min(left, threading.TIMEOUT_MAX))
            if self._closed:
                return None
            self._next_at = max(self._next_at, self._newest_at + PROGRESS_SECONDS)
            report, self._newest, self._newest_at = self._newest, None, math.inf
            self._busy = True
            return report

    def _send_progress(self) -> None:
        while (report := self._due_report()) is not None:
            body = REPORT.dump_json(report, by_alias=True)
            answers = (self._post(body) for _ in range(LEADER_TRIES))
            answer = next(
                (answer for answer in answers if answer.status != NOT_THE_LEADER), Answer(NOT_THE_LEADER, "nobody leads")
            )
            if answer.status in (GONE, SUPERSEDED):
                self._stopped = answer.words
            elif not 200 <= answer.status < 300:
                # The next report carries everything that this one did.
                log.info("progress not accepted: %s", answer.words)
            with self._wake:
                self._busy = False
                self._wake.notify_all()

    def _post(self, body: bytes) -> Answer:
        url = urlsplit(self._url or "")
        headers = {"Content-Type": "application/json"}
        try:
            if self._token_path:
                # Read each time: the kubelet renews the file.
                headers["Authorization"] = f"Bearer {Path(self._token_path).read_text(encoding='utf-8').strip()}"
            connection = _connect(url.scheme, url.netloc)
            try:
                connection.request("POST", url.path or "/", body, headers)
                response = connection.getresponse()
                words = response.read(2000).decode("utf-8", "replace").strip()
                return Answer(response.status, f"{response.status} {response.reason}: {words}")
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}")


def _connect(scheme: str, netloc: str) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(netloc, timeout=REQUEST_SECONDS, context=ssl.create_default_context())
    return http.client.HTTPConnection(netloc, timeout=REQUEST_SECONDS)
