"""What another thread tells comes in its order, and holds nobody up."""

import asyncio
import threading

from eagleray_operator.handover import TURN_SECONDS, Handover


async def told(count: int, seconds: float) -> tuple[list[int], list[int]]:
    """What came of so many calls that take so long each by the clock, and the turn of the loop in which each came."""
    now = 0.0
    seen: list[int] = []
    turns: list[int] = []
    turn = 0

    def take(number: int) -> None:
        nonlocal now
        now += seconds
        seen.append(number)
        turns.append(turn)

    handover = Handover(lambda: now)
    thread = threading.Thread(target=lambda: [handover.tell(take, number) for number in range(count)])
    thread.start()
    thread.join()
    async with asyncio.timeout(30):
        while len(seen) < count:
            turn += 1
            await asyncio.sleep(0)
    return seen, turns


async def test_calls_come_in_their_order():
    seen, _ = await told(1000, 0)
    assert seen == list(range(1000))


async def test_the_loop_has_its_turn_between_many_calls():
    _, turns = await told(300, TURN_SECONDS / 4)
    assert max(turns.count(turn) for turn in turns) <= 5


async def test_a_call_that_fails_is_told_and_the_next_ones_come():
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(repr(context["exception"])))
    handover, done = Handover(), asyncio.Event()
    handover.tell(lambda: 1 / 0)
    handover.tell(done.set)
    async with asyncio.timeout(5):
        await done.wait()
    assert failures == ["ZeroDivisionError('division by zero')"]
