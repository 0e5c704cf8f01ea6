"""Runs scenarios under faults and compares what comes of them with what comes of them undisturbed."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from eagleray_operator.cluster.port import Ref
from tests.faults.api import ApiError
from tests.faults.faults import Freeze, Point, Shared
from tests.faults.proxy import Call, Fault, address_of
from tests.faults.scenarios import SCENARIOS, Play, settle
from tests.faults.stage import Stage
from tests.faults.world import difference

BATCH = 120
"""Namespaces that are played at a time."""

FREEZE_SECONDS = 90.0
"""How long a batch may take until every namespace has come to its point or to its end."""

GARBAGE_SECONDS = 30.0
"""How long the garbage collector of a busy machine may take for what a batch has left behind."""

Dump = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """A scenario undisturbed: its end, and how many writes and events led there."""

    dump: Dump
    writes: int
    events: int


@dataclass(frozen=True)
class Run:
    """One scenario under one fault; `problem` is what was wrong with its end, or None."""

    scenario: str
    fault: str
    problem: str | None


class _Counting(Fault):
    """Counts the events of each namespace."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            yield line
            self.events[address_of(line)[1]] += 1


class Sweep:
    """One sweep on one stage; `references` must be made first."""

    def __init__(self, stage: Stage) -> None:
        self.runs: list[Run] = []
        self.references: dict[str, Reference] = {}
        self._stage = stage
        self._numbers = itertools.count(1)
        self._done: set[str] = set()

    async def refer(self) -> None:
        """Play every scenario undisturbed, twice: only what is the same both times can be compared at all."""
        counting = self._stage.proxy.fault = _Counting()
        await self._stage.start()
        plays = {scenario: self.play(scenario) for scenario in SCENARIOS}
        again = {scenario: self.play(scenario) for scenario in SCENARIOS}
        ends = await self._perform([*plays.items(), *again.items()])
        self._stage.kill()
        self._stage.proxy.fault = Fault()
        for (scenario, play), (problem, dump) in zip(plays.items(), ends, strict=False):
            assert problem is None, f"{scenario} undisturbed: {problem}"
            writes = len(self._stage.proxy.writes(play.namespace))
            self.references[scenario] = Reference(dump, writes, counting.events[play.namespace])
        for scenario, (problem, dump) in zip(again, ends[len(plays) :], strict=True):
            self._judge(scenario, "T0 undisturbed", problem, dump)
        await self.clear([*plays.values(), *again.values()])

    def points(self, whens: tuple[str, ...], every: int = 1) -> list[tuple[str, Point]]:
        """Every point of every scenario, or one of `every`."""
        found = [
            (scenario, Point(number, when))
            for scenario, reference in self.references.items()
            for when in whens
            for number in range(reference.events if when == "on" else reference.writes)
        ]
        return found[::every]

    async def crash(self, fault: str, points: list[tuple[str, Point]]) -> None:
        """Kill the operator once for each batch, each of its namespaces being at its own point, and go on with another."""
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            plays = [(scenario, self.play(scenario)) for scenario, _ in batch]
            freeze = Freeze({play.namespace: point for (_, play), (_, point) in zip(plays, batch, strict=True)})
            self._stage.proxy.fault = freeze
            await self._stage.start()
            performing = asyncio.create_task(self._perform(plays))
            ended = time.monotonic() + FREEZE_SECONDS
            while time.monotonic() < ended and not performing.done():
                if all(play.namespace in freeze.frozen or play.namespace in self._done for _, play in plays):
                    break
                await asyncio.sleep(0.1)
            self._stage.kill()
            self._stage.proxy.fault = Fault()
            freeze.release()
            await self._stage.start()
            async with self._stage.kubelet():
                ends = await performing
            for (scenario, play), (_, point), (problem, dump) in zip(plays, batch, ends, strict=True):
                missed = "" if play.namespace in freeze.frozen else " (not reached)"
                self._judge(scenario, fault, problem, dump, f"killed {point}{missed}")
            self._stage.kill()
            await self.clear([play for _, play in plays])

    async def disturb(self, faults: Mapping[str, Callable[[], Fault]], copies: int = 1, restarts: int = 0) -> list[Fault]:
        """Play every scenario under each fault; when all are through, they are lifted and the ends compared.

        Several faults must be such that spoil requests alone. The operator may end itself `restarts` times at most.
        Returns the faults.
        """
        await self._stage.start()
        made = {name: make() for name, make in faults.items()}
        plays = [(name, scenario, self.play(scenario)) for name in made for scenario in SCENARIOS for _ in range(copies)]
        [only, *more] = made.values()
        self._stage.proxy.spoil(Shared({play.namespace: made[name] for name, _, play in plays}) if more else only)
        async with self._stage.kubelet():
            ends = await self._perform([(scenario, play) for _, scenario, play in plays], before_the_end=self._lift)
        for (name, scenario, _), (problem, dump) in zip(plays, ends, strict=True):
            if self._stage.restarts > restarts:
                problem = problem or f"the operator ended {self._stage.restarts} times"
            self._judge(scenario, name, problem, dump)
        self._stage.kill()
        await self.clear([play for _, _, play in plays])
        return [only, *more]

    async def undisturbed(self, name: str, look: Callable[[list[Play]], Awaitable[Mapping[str, str]]]) -> None:
        """Play every scenario and then look at what follows: `look` returns what was wrong by namespace."""
        await self._stage.start()
        plays = [(scenario, self.play(scenario)) for scenario in SCENARIOS]
        ends = await self._perform(plays)
        wrong = await look([play for _, play in plays])
        for (scenario, play), (problem, _) in zip(plays, ends, strict=True):
            await settle(play)
            self._judge(scenario, name, problem or wrong.get(play.namespace), self._dump(play))
        self._stage.kill()
        await self.clear([play for _, play in plays])

    async def meanwhile(self, name: str, disturb: Callable[[], Awaitable[None]], verdict: Callable[[], str | None]) -> None:
        """Play every scenario again and again while something is done to the operators; what is left of them is killed."""
        await self._stage.start()
        ended = asyncio.Event()
        plays: list[tuple[str, Play]] = []
        ends: list[tuple[str | None, Dump]] = []

        async def play_on() -> None:
            while not ended.is_set():
                turn = [(scenario, self.play(scenario)) for scenario in SCENARIOS]
                plays.extend(turn)
                ends.extend(await self._perform(turn))

        playing = asyncio.create_task(play_on())
        try:
            await disturb()
        finally:
            ended.set()
            await playing
        for (scenario, _), (problem, dump) in zip(plays, ends, strict=True):
            self._judge(scenario, name, problem or verdict(), dump)
        for operator in list(self._stage.operators):
            self._stage.kill(operator)
        await self.clear([play for _, play in plays])

    async def _lift(self) -> None:
        self._stage.proxy.fault.release()
        self._stage.proxy.fault = Fault()
        # A sweep, whatever was missed.
        await asyncio.sleep(6)

    def play(self, scenario: str) -> Play:
        """A namespace of its own, not made yet."""
        number = next(self._numbers)
        namespace = f"{scenario.lower().replace(' ', '-')}-{number:05}"
        return Play(namespace, self._stage.api, self._stage.world, self._stage.kuberay)

    async def _perform(
        self, plays: list[tuple[str, Play]], before_the_end: Callable[[], Any] | None = None
    ) -> list[tuple[str | None, Dump]]:
        self._done.clear()

        async def perform(scenario: str, play: Play) -> str | None:
            await play.api.make_namespace(play.namespace)
            try:
                await SCENARIOS[scenario](play)
            except (AssertionError, ApiError, pytest.fail.Exception) as error:
                return str(error)
            finally:
                self._done.add(play.namespace)
            return None

        problems = await asyncio.gather(*(perform(scenario, play) for scenario, play in plays))
        if before_the_end is not None:
            await before_the_end()
        ends = []
        last_call = time.monotonic() + GARBAGE_SECONDS
        for problem, (scenario, play) in zip(problems, plays, strict=True):
            await settle(play)
            while self._differs(scenario, play) and time.monotonic() < last_call:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            ends.append((problem, self._dump(play)))
        return ends

    def _differs(self, scenario: str, play: Play) -> bool:
        reference = self.references.get(scenario)
        return reference is not None and bool(difference(reference.dump, self._dump(play)))

    def _dump(self, play: Play) -> Dump:
        found = play.world.dump(play.namespace)
        drivers = Counter(ref.name for ref, _ in play.kuberay.submissions if ref.namespace == play.namespace)
        return found | {f"drivers of {name} started": count for name, count in drivers.items()}

    def _judge(self, scenario: str, fault: str, problem: str | None, dump: Dump, how: str = "") -> None:
        if problem is None and (different := difference(self.references[scenario].dump, dump)):
            problem = "another end (undisturbed | this): " + "; ".join(different[:6])
        self.runs.append(Run(scenario, fault, f"{how}: {problem}" if problem is not None else None))

    async def clear(self, plays: list[Play]) -> None:
        """Delete the namespaces and wait until nothing is in them."""
        for play in plays:
            await self._stage.api.delete(Ref("Namespace", "", play.namespace))
        for play in plays:
            with suppress(AssertionError):
                await play.until_gone()


def table(runs: list[Run], references: Mapping[str, Reference]) -> str:
    """Scenarios by fault classes: runs, and of them wrong ends where there are any."""
    faults = list(dict.fromkeys(run.fault for run in runs))
    width = max(len(fault) for fault in faults) + 1
    lines = []
    for fault in faults:
        cells = []
        for scenario in references:
            of = [run for run in runs if run.fault == fault and run.scenario == scenario]
            wrong = sum(run.problem is not None for run in of)
            cells.append(f"{len(of)}{f' ({wrong} wrong)' if wrong else ''}".rjust(14))
        lines.append(fault.ljust(width) + "".join(cells))
    head = "".ljust(width) + "".join(scenario[:13].rjust(14) for scenario in references)
    wrong = sum(run.problem is not None for run in runs)
    return "\n".join([head, *lines, f"{len(runs)} runs, {wrong} wrong end states"])
