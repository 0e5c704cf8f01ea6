"""The limit of requests: a burst, then a steady rate, and silence when the apiserver asks for it."""

import asyncio

import pytest

from eagleray_operator.cluster import limits as module
from eagleray_operator.cluster.limits import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module.asyncio, "sleep", made.sleep)
    return made


async def moments(limit: RateLimit, clock: Clock, count: int) -> list[float]:
    found = []
    for _ in range(count):
        await limit.take()
        found.append(round(clock.now - 1000, 6))
    return found


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate(clock: Clock):
    assert await moments(RateLimit(10, 3, clock), clock, 6) == [0, 0, 0, 0.1, 0.2, 0.3]


async def test_what_was_not_used_is_saved_up_to_the_burst(clock: Clock):
    limit = RateLimit(10, 3, clock)
    await moments(limit, clock, 3)
    clock.now += 60
    assert await moments(limit, clock, 4) == [60, 60, 60, 60.1]


async def test_nothing_is_sent_while_the_apiserver_wants_to_be_left_alone(clock: Clock):
    limit = RateLimit(10, 3, clock)
    limit.close(30)
    assert (await moments(limit, clock, 1))[0] == 30


async def test_the_real_clock_is_kept_to():
    limit = RateLimit(100, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(11):
        await limit.take()
    assert 0.095 <= loop.time() - began < 0.5
