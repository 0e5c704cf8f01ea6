"""The work queue: each key once, one worker a key, failures later and later."""

import asyncio
import random
import time

from eagleray_operator.cluster.port import Ref

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 60.0


class WorkQueue:
    """Keys to reconcile, as client-go's rate-limited queue keeps them.

    A key that is added while it is worked on is worked on once more afterwards. A key that waits for a later time is
    worked on earlier when an event adds it.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Ref] = asyncio.Queue()
        self._dirty: dict[Ref, float] = {}
        self._active: set[Ref] = set()
        self._failures: dict[Ref, int] = {}
        self._timers: dict[Ref, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: Ref) -> None:
        """Work on the key as soon as may be."""
        self._cancel(key)
        if key in self._dirty:
            return
        self._dirty[key] = time.monotonic()
        if key not in self._active:
            self._ready.put_nowait(key)

    def add_after(self, key: Ref, seconds: float) -> None:
        """Work on the key in that many seconds, unless it is already due earlier."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and known.when() <= loop.time() + seconds:
            return
        self._cancel(key)
        self._timers[key] = loop.call_later(max(0.0, seconds), self.add, key)

    def retry(self, key: Ref, at_least: float = 0.0) -> float:
        """Work on a key that failed again: twice as late each time, a fifth more or less so that keys spread out."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_RETRY_SECONDS * 2.0**failures, LONGEST_RETRY_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311
        delay = max(delay, at_least)
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Ref) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    async def get(self) -> tuple[Ref, float]:
        """The next key, and the seconds that it waited; call `done` when it is worked on."""
        key = await self._ready.get()
        waited = time.monotonic() - self._dirty.pop(key)
        self._active.add(key)
        return key, waited

    def done(self, key: Ref) -> None:
        """The key is worked on; if it was added meanwhile it is due again."""
        self._active.discard(key)
        if key in self._dirty:
            self._ready.put_nowait(key)

    def _cancel(self, key: Ref) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
