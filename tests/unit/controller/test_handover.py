"""What another thread tells comes in its order, and holds nobody up."""

import asyncio
import threading
import time

from eagleray_operator.handover import TURN_SECONDS, Handover


async def told(count: int, seconds: float) -> tuple[list[int], float]:
    """What came of so many calls that take so long each, and the longest time that the loop did nothing else."""
    seen: list[int] = []
    done = asyncio.Event()

    def take(number: int) -> None:
        seen.append(number)
        time.sleep(seconds)
        if number == count - 1:
            done.set()

    handover = Handover()
    thread = threading.Thread(target=lambda: [handover.tell(take, number) for number in range(count)])
    thread.start()
    thread.join()
    longest, last = 0.0, time.monotonic()
    while not done.is_set():
        await asyncio.sleep(0)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return seen, longest


async def test_calls_come_in_their_order():
    seen, _ = await told(1000, 0)
    assert seen == list(range(1000))


async def test_the_loop_has_its_turn_between_many_calls():
    _, longest = await told(300, 0.005)
    assert longest < 1.5 / 4, "all at once they take a second and a half"
    assert TURN_SECONDS < 0.1


async def test_a_call_that_fails_is_told_and_the_next_ones_come():
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(repr(context["exception"])))
    handover, done = Handover(), asyncio.Event()
    handover.tell(lambda: 1 / 0)
    handover.tell(done.set)
    async with asyncio.timeout(5):
        await done.wait()
    assert failures == ["ZeroDivisionError('division by zero')"]
