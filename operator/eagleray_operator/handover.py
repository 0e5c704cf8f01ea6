"""Calls that another thread wants made in our loop."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

TURN_SECONDS = 0.02
"""How long calls are made before the loop's other work has its turn."""


class Handover:
    """Makes calls of other threads in the loop that it was created in, in their order.

    Not all at once, as `loop.call_soon_threadsafe` would: where thousands of objects are listed, the loop would stand still
    for seconds, and with it the renewal of the lease and the answers to the kubelet.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._awake = False

    def tell(self, call: Callable[..., object], *arguments: object) -> None:
        """Have it called soon; from any thread. RuntimeError if the loop is closed."""
        with self._lock:
            self._calls.append((call, arguments))
            if self._awake:
                return
            self._awake = True
        self._loop.call_soon_threadsafe(self._work)

    def _work(self) -> None:
        end = self._clock() + TURN_SECONDS
        while self._clock() < end:
            with self._lock:
                if not self._calls:
                    self._awake = False
                    return
                call, arguments = self._calls.popleft()
            try:
                call(*arguments)
            except Exception as error:
                self._loop.call_exception_handler({"message": "A call of another thread has failed.", "exception": error})
        self._loop.call_soon(self._work)
