"""The work queue: each key once, one worker a key, the urgent first, namespaces in turn, failures later and later."""

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from enum import IntEnum

from eagleray_operator.cluster.port import Ref

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 60.0
ROUTINE_SHARE = 8
"""Of so many keys one is taken from the back of the line, so that even a flood of urgent ones starves nothing."""


class Urgency(IntEnum):
    """Why a key is due, the most urgent first."""

    USER = 0
    """A user made the resource or changed what it asks for."""

    NEWS = 1
    """Something about it has changed: a child, a report, a time that has come."""

    ROUTINE = 2
    """Nothing is known to have changed: a sweep, the echo of our own write, another try of what failed."""


class _Line:
    """Keys of one urgency, by namespaces that take turns."""

    def __init__(self) -> None:
        self._namespaces: OrderedDict[str, deque[Ref]] = OrderedDict()

    def push(self, key: Ref) -> None:
        self._namespaces.setdefault(key.namespace, deque()).append(key)

    def pop(self) -> Ref | None:
        if not self._namespaces:
            return None
        namespace, keys = self._namespaces.popitem(last=False)
        key = keys.popleft()
        if keys:
            self._namespaces[namespace] = keys
        return key


class WorkQueue:
    """Keys to reconcile, as client-go's rate-limited queue keeps them.

    A key that is added while it is worked on is worked on once more afterwards. A key that waits for a later time is
    worked on earlier when an event adds it. Added again more urgently, it moves ahead.
    """

    def __init__(self) -> None:
        self._lines = [_Line() for _ in Urgency]
        self._available = asyncio.Semaphore(0)
        self._taken = 0
        self._dirty: dict[Ref, tuple[float, Urgency]] = {}
        self._active: set[Ref] = set()
        self._delays: dict[Ref, float] = {}
        self._timers: dict[Ref, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: Ref, urgency: Urgency = Urgency.NEWS) -> None:
        """Work on the key as soon as may be."""
        self._cancel(key)
        since, known = self._dirty.get(key, (time.monotonic(), None))
        if known is not None and known <= urgency:
            return
        self._dirty[key] = (since, urgency)
        if key in self._active:
            return
        self._lines[urgency].push(key)
        if known is None:
            self._available.release()

    def add_after(self, key: Ref, seconds: float, urgency: Urgency = Urgency.NEWS) -> None:
        """Work on the key in that many seconds, unless it is already due earlier."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and known.when() <= loop.time() + seconds:
            return
        self._cancel(key)
        self._timers[key] = loop.call_later(max(0.0, seconds), self.add, key, urgency)

    def retry(self, key: Ref, at_least: float = 0.0) -> float:
        """Work on a key that failed again: twice as late each time, a fifth more or less so that keys spread out."""
        delay = self._delays.get(key, FIRST_RETRY_SECONDS)
        self._delays[key] = min(delay * 2, LONGEST_RETRY_SECONDS)
        delay = max(delay * random.uniform(0.8, 1.2), at_least)  # noqa: S311
        self.add_after(key, delay, Urgency.ROUTINE)
        return delay

    def succeeded(self, key: Ref) -> None:
        """Forget the failures of a key."""
        self._delays.pop(key, None)

    def forget(self, key: Ref) -> None:
        """Drop what is kept of a key whose resource is gone."""
        self._cancel(key)
        self._delays.pop(key, None)

    async def get(self) -> tuple[Ref, float]:
        """The next key, and the seconds that it waited; call `done` when it is worked on."""
        await self._available.acquire()
        self._taken += 1
        key = self._next(reversed(Urgency) if self._taken % ROUTINE_SHARE == 0 else iter(Urgency))
        since, _ = self._dirty.pop(key)
        self._active.add(key)
        return key, time.monotonic() - since

    def done(self, key: Ref) -> None:
        """The key is worked on; if it was added meanwhile it is due again."""
        self._active.discard(key)
        if key in self._dirty:
            self._lines[self._dirty[key][1]].push(key)
            self._available.release()

    def _next(self, order: Iterable[Urgency]) -> Ref:
        for urgency in order:
            while (key := self._lines[urgency].pop()) is not None:
                # A key that has moved ahead has left its old place behind.
                if key not in self._active and self._dirty.get(key, (0.0, None))[1] is urgency:
                    return key
        raise AssertionError("the semaphore counts the keys that wait")

    def _cancel(self, key: Ref) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
