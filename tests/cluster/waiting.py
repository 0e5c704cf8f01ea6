"""Waiting for a condition, with a limit and with the name of what was waited for in the error."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import ClusterError


def wait_until(
    check: Callable[[], bool],
    what: str,
    *,
    seconds: float,
    still_possible: Callable[[], str | None] = lambda: None,
) -> None:
    """Poll `check` until it holds.

    `still_possible` returns why it can no longer happen (a process died, say): waiting out the limit then only hides
    the cause.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not check():
        reason = still_possible()
        if reason:
            raise ClusterError(f"{what}: {reason}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.5)
