"""How fast one process may ask the apiserver."""

import asyncio
import time
from collections.abc import Callable


class RateLimit:
    """A token bucket: `rate` requests a second in the long run, `burst` at once; those that wait go in their order.

    When the apiserver asks to be left alone, all wait.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._ahead = (burst - 1) / rate
        self._clock = clock
        self._next = 0.0
        self._closed_until = 0.0

    async def take(self) -> None:
        """Return when one more request may be sent."""
        at = max(self._next, self._clock())
        self._next = at + self._interval
        at -= self._ahead
        while (wait := max(at, self._closed_until) - self._clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)

    def close(self, seconds: float) -> None:
        """Send nothing for that long."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)
