"""The watches begin anew whatever ends them, and nothing else ends with them."""

import asyncio
import itertools
import threading
from typing import Any

import pytest

from eagleray_operator import handlers
from eagleray_operator.handlers import Patience, Watches


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "FIRST_RESTART_SECONDS", 0.01)
    monkeypatch.setattr(handlers, "LISTED_SECONDS", 0.2)


async def watching(watches: Watches, *until: asyncio.Event) -> None:
    task = asyncio.create_task(watches.run())
    try:
        ready = asyncio.gather(*(event.wait() for event in until))
        await asyncio.wait({ready, task}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert ready.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_kopf_is_begun_anew_and_told_of_when_it_ends_by_an_error(monkeypatch: pytest.MonkeyPatch):
    lives = itertools.count()
    seen: list[Any] = []
    restarted, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def operator(*, registry: Any, ready_flag: asyncio.Event, stop_flag: asyncio.Event, **_: Any) -> None:
        ready_flag.set()
        await asyncio.sleep(0.01)
        if next(lives) == 0:
            raise RuntimeError("404: the definition is gone")
        loop.call_soon_threadsafe(second.set)
        await stop_flag.wait()

    monkeypatch.setattr(handlers.kopf, "operator", operator)
    watches = Watches(lambda *event: seen.append(event), restarted.set, "me")
    beside = asyncio.create_task(asyncio.sleep(3600))
    await watching(watches, restarted, second)
    assert watches.ready.is_set()
    assert not beside.done(), "Kopf cancels what is in its loop, and that is not ours"
    beside.cancel()
    assert next(lives) == 2


async def test_events_arrive_in_our_loop_and_in_their_order(monkeypatch: pytest.MonkeyPatch):
    arrived = asyncio.Event()
    seen: list[tuple[str, str, bool]] = []
    ours = threading.get_ident()

    async def operator(*, registry: Any, stop_flag: asyncio.Event, **_: Any) -> None:
        handler = registry._watching.get_all_handlers()[0]
        for number in range(50):
            await handler.fn(event={"type": "MODIFIED", "object": {"metadata": {"name": str(number)}}})
        await stop_flag.wait()

    def take(event: str | None, manifest: dict[str, Any]) -> None:
        seen.append((str(event), manifest["metadata"]["name"], threading.get_ident() == ours))
        if len(seen) == 50:
            arrived.set()

    monkeypatch.setattr(handlers.kopf, "operator", operator)
    await watching(Watches(take, lambda: None, "me"), arrived)
    assert seen == [("MODIFIED", str(number), True) for number in range(50)]


async def test_when_we_end_kopf_is_told_to(monkeypatch: pytest.MonkeyPatch):
    begun, ended = asyncio.Event(), threading.Event()

    async def operator(*, ready_flag: asyncio.Event, stop_flag: asyncio.Event, **_: Any) -> None:
        ready_flag.set()
        await stop_flag.wait()
        ended.set()

    monkeypatch.setattr(handlers.kopf, "operator", operator)
    watches = Watches(lambda *_: None, lambda: None, "me")
    begun = watches.ready
    await watching(watches, begun)
    assert await asyncio.to_thread(ended.wait, 5)


def test_one_request_is_tried_for_as_long_as_it_takes_and_never_rarely():
    tries = list(itertools.islice(Patience(), 500))
    assert tries[0] < 1
    assert max(tries) < 10
    assert sum(tries) > 3600
