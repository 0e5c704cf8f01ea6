"""The work queue: who is served first, and that nobody is forgotten."""

import asyncio

import pytest

from eagleray_operator.cluster.port import Ref
from eagleray_operator.controller import queue as module
from eagleray_operator.controller.queue import LONGEST_RETRY_SECONDS, ROUTINE_SHARE, Urgency, WorkQueue


def key(name: str, namespace: str = "team") -> Ref:
    return Ref("TrainingJob", namespace, name)


async def served(queue: WorkQueue, count: int) -> list[str]:
    names = []
    for _ in range(count):
        found, _ = await asyncio.wait_for(queue.get(), 1)
        queue.done(found)
        names.append(found.name)
    return names


async def test_what_a_user_changed_goes_before_news_and_news_before_routine():
    queue = WorkQueue()
    queue.add(key("swept"), Urgency.ROUTINE)
    queue.add(key("child"), Urgency.NEWS)
    queue.add(key("edited"), Urgency.USER)
    assert await served(queue, 3) == ["edited", "child", "swept"]


async def test_a_key_that_waits_moves_ahead_when_its_user_changes_it_and_is_worked_on_once():
    queue = WorkQueue()
    for name in ("a", "b", "c"):
        queue.add(key(name), Urgency.ROUTINE)
    queue.add(key("c"), Urgency.USER)
    assert await served(queue, 3) == ["c", "a", "b"]
    assert len(queue) == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


async def test_a_key_never_falls_back_by_being_added_less_urgently():
    queue = WorkQueue()
    queue.add(key("a"), Urgency.NEWS)
    queue.add(key("b"), Urgency.USER)
    queue.add(key("b"), Urgency.ROUTINE)
    assert await served(queue, 2) == ["b", "a"]


async def test_a_flood_of_one_namespace_does_not_hold_up_another():
    queue = WorkQueue()
    for number in range(100):
        queue.add(key(f"flood-{number}", "big"))
    queue.add(key("small", "small"))
    assert "small" in await served(queue, 2)


async def test_a_flood_of_urgent_keys_does_not_starve_routine():
    queue = WorkQueue()
    queue.add(key("swept"), Urgency.ROUTINE)
    for number in range(100):
        queue.add(key(f"edited-{number}"), Urgency.USER)
    assert "swept" in await served(queue, ROUTINE_SHARE)


async def test_a_key_that_is_added_while_it_is_worked_on_comes_again_and_never_twice_at_a_time():
    queue = WorkQueue()
    queue.add(key("a"))
    found, _ = await queue.get()
    queue.add(key("a"), Urgency.ROUTINE)
    queue.add(key("a"), Urgency.USER)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)
    queue.done(found)
    assert await served(queue, 1) == ["a"]


async def test_retries_are_ever_later_up_to_a_limit_and_spread(monkeypatch):
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)
    queue = WorkQueue()
    delays = [queue.retry(key("a")) for _ in range(12)]
    assert delays[:3] == [pytest.approx(0.3), pytest.approx(0.6), pytest.approx(1.2)]
    assert delays[-1] == pytest.approx(LONGEST_RETRY_SECONDS * 1.2)
    queue.forget(key("a"))


async def test_a_key_may_fail_for_weeks():
    queue = WorkQueue()
    for _ in range(5000):
        delay = queue.retry(key("a"))
    assert delay <= LONGEST_RETRY_SECONDS * 1.2
    queue.forget(key("a"))


async def test_success_forgets_the_failures_and_the_cluster_may_ask_for_more_time():
    queue = WorkQueue()
    for _ in range(6):
        queue.retry(key("a"))
    queue.succeeded(key("a"))
    assert queue.retry(key("a")) < 0.5
    assert queue.retry(key("a"), at_least=30.0) == 30.0
    queue.forget(key("a"))


async def test_an_event_comes_before_the_time_of_the_next_try():
    queue = WorkQueue()
    queue.add_after(key("a"), 3600)
    queue.add(key("a"))
    assert await served(queue, 1) == ["a"]
