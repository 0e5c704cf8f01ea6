"""The edge to Kopf: watches every kind and hands its events over. The only module that imports kopf."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from eagleray_operator.cluster.kube import LABEL_SELECTOR, OWN_KINDS
from eagleray_operator.cluster.port import KINDS, Manifest
from eagleray_operator.controller.controller import WATCHED
from eagleray_operator.handover import Handover

logger = logging.getLogger(__name__)

FIRST_RESTART_SECONDS = 0.5
LONGEST_RESTART_SECONDS = 15.0
STEADY_SECONDS = 60.0
"""Watches that lasted so long are begun again without delay."""

LISTED_SECONDS = 5.0
"""When new watches have listed what there is; what was deleted in between, only another listing tells."""

Seen = Callable[[str | None, Manifest], object]
"""Told of each event: its type (None in a listing) and the object."""


class Patience:
    """Seconds between tries of one request, without end: Kopf would end with them, however long the apiserver is away."""

    def __iter__(self) -> Iterator[float]:
        for seconds in (0.5, 1, 2, 4):
            yield seconds * random.uniform(0.8, 1.2)  # noqa: S311
        while True:
            yield 8 * random.uniform(0.8, 1.2)  # noqa: S311


class Watches:
    """Kopf at work in a thread and a loop of its own, begun anew whenever it ends.

    It ends when a watch is answered with what it does not expect (a definition that is gone, an error in the stream, half
    a line), and then cancels whatever else was started in its loop. Neither must end the operator.
    """

    def __init__(self, seen: Seen, restarted: Callable[[], object], identity: Any) -> None:
        """`seen` and `restarted` are called in the loop that `run` runs in; `identity` names this process."""
        self.ready = asyncio.Event()
        self._seen = seen
        self._restarted = restarted
        self._identity = identity

    async def run(self) -> None:
        """Watch until cancelled."""
        delay = FIRST_RESTART_SECONDS
        while True:
            began = time.monotonic()
            error = await self._watch()
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_RESTART_SECONDS
            logger.warning("The watches have ended (%r) and begin anew in %.1f s.", error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_RESTART_SECONDS)
            asyncio.get_running_loop().call_later(LISTED_SECONDS, self._restarted)

    async def _watch(self) -> BaseException | None:
        """One life of Kopf; returns what ended it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()
        life = _Life(Handover().tell)

        def work() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(life.live(self._seen, self.ready.set, self._identity))
            except BaseException as caught:
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(_finish, ended, error)

        threading.Thread(target=work, name="watches", daemon=True).start()
        try:
            return await ended
        except asyncio.CancelledError:
            life.end()
            raise


class _Life:
    """One life of Kopf, in the thread and the loop that `live` is called in."""

    def __init__(self, tell: Callable[..., object]) -> None:
        """`tell` calls a function in the loop of whoever listens."""
        self._tell = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flag: asyncio.Event | None = None

    async def live(self, seen: Seen, ready: Callable[[], object], identity: Any) -> None:
        self._loop, self._flag = asyncio.get_running_loop(), asyncio.Event()
        begun = asyncio.Event()
        # It was there before Kopf, which cancels only what comes after.
        waiting = asyncio.create_task(begun.wait())
        waiting.add_done_callback(lambda task: None if task.cancelled() else self._tell(ready))
        await kopf.operator(
            registry=registry(lambda event, manifest: self._tell(seen, event, manifest)),
            settings=kopf_settings(),
            clusterwide=True,
            # Kopf would look the user's name up, and a pod's user need not have one.
            identity=identity,
            ready_flag=begun,
            stop_flag=self._flag,
        )

    def end(self) -> None:
        """Ask Kopf, from another thread, to end."""
        if self._loop is not None and self._flag is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._flag.set)


def _finish(future: "asyncio.Future[BaseException | None]", error: BaseException | None) -> None:
    if not future.done():
        future.set_result(error)


def registry(seen: Seen) -> kopf.OperatorRegistry:
    """Event handlers of every kind that the cache holds; they do nothing but hand the object over."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(kopf.login_via_client)

    async def hand_over(event: Any, **_: Any) -> None:
        # A plain dict, free of Kopf's views.
        seen(event["type"], dict(event["object"]))

    for name in WATCHED:
        kind = KINDS[name]
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=f"seen-{kind.plural}")(hand_over)
    return handlers


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a watcher alone: no peering, no event posting, patient with an apiserver that is away."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Patience()
    settings.watching.inactivity_timeout = 70
    settings.watching.server_timeout = 290
    for name in WATCHED:
        if name not in OWN_KINDS:
            kind = KINDS[name]
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = LABEL_SELECTOR
    return settings
