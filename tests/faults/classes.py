"""The fault classes of the sweep."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults import faults
from tests.faults.proxy import Fault
from tests.faults.stage import Stage
from tests.faults.sweep import Sweep


@dataclass(frozen=True)
class Context:
    """What a class is performed with; `sample` leaves most of the points of a large class out."""

    stage: Stage
    sweep: Sweep
    seed: int
    sample: bool


Perform = Callable[[str, Context], Awaitable[None]]


async def crash_at_writes(name: str, context: Context) -> None:
    """T1: killed before and after every write."""
    await context.sweep.crash(name, context.sweep.points(("before", "after"), every=5 if context.sample else 1))


async def crash_at_events(name: str, context: Context) -> None:
    """T2: killed after every event that the operator gets."""
    await context.sweep.crash(name, context.sweep.points(("on",), every=16 if context.sample else 1))


def chance(kind: type[faults.Chance]) -> Perform:
    """Scenarios under a fault that hits by chance; it must have hit."""

    async def perform(name: str, context: Context) -> None:
        for turn in range(1 if context.sample else 5):
            seed = context.seed * 1000 + turn
            fault = await context.sweep.disturb(name, lambda: kind(seed))  # noqa: B023
            assert isinstance(fault, faults.Chance)
            assert fault.hits > 0, f"{name} never hit"

    return perform


def timed(make: Callable[[], Fault]) -> Perform:
    async def perform(name: str, context: Context) -> None:
        await context.sweep.disturb(name, make)

    return perform


CLASSES: dict[str, Perform] = {
    "T1 killed at writes": crash_at_writes,
    "T2 killed at events": crash_at_events,
    "T3 late events": chance(faults.LateEvents),
    "T3 back in time": chance(faults.TimeTravel),
    "T4 unobserved": chance(faults.Unobserved),
    "T5 conflicts": chance(faults.Conflicts),
    "T6 slow": chance(faults.Slow),
    "T6 throttled": chance(faults.Throttled),
    "T6 500 to 504": chance(faults.ServerErrors),
    "T6 outage": timed(lambda: faults.Outage(4, 20)),
    "T6 forbidden": timed(lambda: faults.Forbidden(4, 20)),
    "T6 refused": chance(faults.Refusals),
    "T7 connections": chance(faults.BrokenConnections),
    "T7 watches": chance(faults.BrokenWatches),
}
