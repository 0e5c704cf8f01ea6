"""The fault classes of the sweep."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from eagleray_operator.settings import Images
from tests.faults import faults, specs
from tests.faults.api import ApiError, Manifest
from tests.faults.proxy import Answer, Call, Fault
from tests.faults.scenarios import Play, settle
from tests.faults.stage import Stage
from tests.faults.sweep import GARBAGE_SECONDS, Run, Sweep
from tests.faults.world import difference
from tests.support.makers import condition


@dataclass(frozen=True)
class Context:
    """What a class is performed with; `sample` leaves most of the points of a large class out."""

    stage: Stage
    sweep: Sweep
    seed: int
    sample: bool


Perform = Callable[[str, Context], Awaitable[None]]

SEEDS = 3
"""With which faults that hit by chance are tried, at most."""


def killed(*, writes: int = 0, events: int = 0) -> Perform:
    """Scenarios in which the operator is killed, before and after one of so many writes, and after one of so many events."""

    async def perform(name: str, context: Context) -> None:
        at_writes = context.sweep.points(("before", "after"), writes) if writes else []
        at_events = context.sweep.points(("on",), events) if events else []
        await context.sweep.crash(name, at_writes + at_events)

    return perform


def chance(kinds: Mapping[str, Callable[[int], Fault]]) -> Perform:
    """Scenarios under faults that hit by chance; those that did not hit are tried again with other seeds."""

    async def perform(name: str, context: Context) -> None:
        copies = 1 if context.sample else 3
        missing = dict(kinds)
        for turn in range(SEEDS):
            made = {told: partial(kind, context.seed + turn) for told, kind in missing.items()}
            for told, fault in zip(made, await context.sweep.disturb(made, copies), strict=True):
                assert isinstance(fault, faults.Chance | faults.AnyWatch)
                if fault.hits > 0:
                    del missing[told]
            if not missing:
                return
        raise AssertionError(f"never hit with {SEEDS} seeds: {', '.join(missing)}")

    return perform


async def outage(name: str, context: Context) -> None:
    """T6: nothing answers for a while; at most one restart, and no more writes afterwards than it all takes undisturbed."""
    seconds = 12 if context.sample else 600
    context.stage.world.patience += seconds
    [fault] = await context.sweep.disturb({name: lambda: faults.Outage(4, seconds)}, restarts=1)
    context.stage.world.patience -= seconds
    assert isinstance(fault, faults.Outage)
    wrote = len(context.stage.proxy.writes(since=fault.ends))
    undisturbed = sum(reference.writes for reference in context.sweep.references.values())
    print(f"  {wrote} writes after {seconds} s without an answer; all of them undisturbed: {undisturbed}", flush=True)
    assert wrote <= 1.2 * undisturbed


async def forbidden(name: str, context: Context) -> None:
    """T6: every right is gone for a while."""
    await context.sweep.disturb({name: lambda: faults.Forbidden(4, 12 if context.sample else 120)})


Look = Callable[[Context, list[Play]], Awaitable[dict[str, str]]]
"""What is wrong, by namespace."""


def at_rest(*looks: Look) -> Perform:
    """Scenarios that have come to their end undisturbed, and what is looked at then, one after the other."""

    async def perform(name: str, context: Context) -> None:
        async def look(plays: list[Play]) -> dict[str, str]:
            await asyncio.gather(*(settle(play, 7) for play in plays))
            wrong: dict[str, str] = {}
            for one in looks:
                wrong = await one(context, plays) | wrong
            return wrong

        await context.sweep.undisturbed(name, look)

    return perform


async def quiet(context: Context, plays: list[Play]) -> dict[str, str]:
    """T11: nothing at all is written, and nothing read but by watches and sweeps."""
    seconds = 12 if context.sample else 300
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return _calls(plays, [call for call in context.stage.proxy.journal if call.began >= began], f"in {seconds} quiet seconds")


async def upgrade(context: Context, plays: list[Play]) -> dict[str, str]:
    """T12: another version with the platform's images of its own takes over, and the first one again: no child is written."""
    began = time.monotonic()
    for version in ("0.2.0", "0.1.0"):
        context.stage.kill()
        images = Images(numpy=f"registry/eagleray-runtime:{version}", torch=f"registry/eagleray-runtime:{version}-torch")
        await context.stage.start(images=images)
        await asyncio.sleep(8)
    return _calls(plays, context.stage.proxy.writes(since=began), "written by the other version")


def _calls(plays: list[Play], calls: list[Call], what: str) -> dict[str, str]:
    """What was asked about namespaces in which nothing should be."""
    of = {play.namespace: [str(call) for call in calls if call.namespace == play.namespace] for play in plays}
    return {namespace: f"{what}: {found[:5]}" for namespace, found in of.items() if found}


class _WithoutLease(Fault):
    """One operator cannot reach the lease."""

    def __init__(self, operator: str) -> None:
        self._operator = operator

    async def before(self, call: Call) -> Answer | None:
        return Answer.error(503) if call.operator == self._operator and call.plural == "leases" else None


async def leaders(name: str, context: Context) -> None:
    """T9: of two replicas the leader is stopped for 30 s, then the other is kept from the lease: never two writers."""
    stage = context.stage
    problem: list[str] = []

    async def disturb() -> None:
        await stage.start("two", forget_the_leader=False, leading=False)
        await asyncio.sleep(3)
        stopped = time.monotonic()
        stage.operators["one"].process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(stage.operators["two"].until_leading, 40)
        took = time.monotonic() - stopped
        print(f"  another replica led {took:.1f} s after the leader was stopped", flush=True)
        if took > 20:
            problem.append(f"the take-over took {took:.1f} s")
        await asyncio.sleep(max(0.0, 30 - took))
        stage.operators["one"].process.send_signal(signal.SIGCONT)
        await asyncio.sleep(6)
        if late := _late(stage.proxy.writes(since=stopped), old="one", new="two"):
            problem.append(f"writes of the old leader after the new one's first: {late}")
        if stage.operators["one"].process.poll() is None:
            problem.append("the old leader did not end")
        stage.operators.pop("one")

        cut = time.monotonic()
        stage.proxy.fault = _WithoutLease("two")
        await stage.start("one", forget_the_leader=False, leading=False)
        await asyncio.to_thread(stage.operators["one"].until_leading, 40)
        took = time.monotonic() - cut
        print(f"  another replica led {took:.1f} s after the leader was cut from the lease", flush=True)
        if late := _late(stage.proxy.writes(since=cut), old="two", new="one"):
            problem.append(f"writes of the one that was cut off after the new leader's first: {late}")
        if stage.operators["two"].process.poll() is None:
            problem.append("the one that was cut off did not end")
        stage.operators.pop("two").kill()
        stage.proxy.fault = Fault()

    await context.sweep.meanwhile(name, disturb, lambda: "; ".join(problem) or None)


def _late(writes: list[Call], old: str, new: str) -> list[str]:
    """What the old leader wrote after the first write of the new one, and how many seconds after it."""
    first = min((call.began for call in writes if call.operator == new), default=float("inf"))
    return [f"{call} after {call.began - first:.2f} s" for call in writes if call.operator == old and call.began > first]


def bad_specs(kind: str) -> Perform:
    """T8: specs that are wrong somewhere follow one another; each is refused or accepted with a reason, and the right one
    at the end comes to what it would have come to at once."""

    async def perform(name: str, context: Context) -> None:
        loop = asyncio.get_running_loop()
        size, times = (20, 1) if context.sample else (40, 4)
        batches: list[list[list[Manifest]]] = []

        @seed(context.seed)
        @settings(
            max_examples=size * times,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(specs.sequences(kind))
        def collect(sequence: list[Manifest]) -> None:
            if not batches or len(batches[-1]) == size:
                batches.append([])
            batches[-1].append(sequence)

        await loop.run_in_executor(None, collect)
        operator = await context.stage.start()
        began = operator.log.stat().st_size
        fresh = await _specs_of(kind, context, [[]])
        [(problem, reference)] = fresh
        assert problem is None, problem
        # One that ends is started again as everywhere else: what follows it must not be judged without an operator.
        async with context.stage.kubelet():
            for batch in batches:
                for sequence, (problem, dump) in zip(batch, await _specs_of(kind, context, batch, reference), strict=True):
                    if problem is None and (different := difference(reference, dump)):
                        problem = "another end (fresh | this): " + "; ".join(different[:4])
                    told = f"{sequence}: {problem}" if problem is not None else None
                    context.sweep.runs.append(Run("S1 create" if kind == "TrainingJob" else "S2 edit", name, told))
        print(f"  the operator ended {context.stage.restarts} times", flush=True)
        log = operator.log.read_text()[began:]
        assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:3000]
        context.stage.kill()

    return perform


async def _specs_of(
    kind: str, context: Context, sequences: list[list[Manifest]], reference: dict[str, Any] | None = None
) -> list[tuple[str | None, dict[str, Any]]]:
    plays = [context.sweep.play(kind) for _ in sequences]

    async def perform(play: Play, sequence: list[Manifest]) -> str | None:
        name = "made" if kind == "TrainingJob" else "shop"
        await play.api.make_namespace(play.namespace)
        made = False
        try:
            for spec in sequence:
                if await _try(play, kind, name, spec, exists=made):
                    made = True
                    if kind == "TrainingJob":
                        await play.until(lambda: condition(play.get(kind, name)["status"], "Accepted"), "it is judged")
                        await play.api.delete(play.ref(kind, name), "Foreground")
                        await play.until_gone()
                        made = False
                    else:
                        await _judged(play, kind, name)
            assert await _try(play, kind, name, specs.BASES[kind], exists=made), "the right spec was refused"
            if kind == "TrainingJob":
                await play.until_reason(kind, name, "Succeeded", "Completed")
            else:
                await play.until_serving(name)
                await play.until(lambda: len(play.world.all("RayService", play.namespace)) == 1, "one revision is left")
        except (AssertionError, ApiError) as error:
            return str(error)
        return None

    problems = await asyncio.gather(*(perform(play, sequence) for play, sequence in zip(plays, sequences, strict=True)))
    ends = []
    last_call = time.monotonic() + GARBAGE_SECONDS
    for play, problem in zip(plays, problems, strict=True):
        await settle(play)
        while reference is not None and difference(reference, _end(play)) and time.monotonic() < last_call:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        ends.append((problem, _end(play)))
    await context.sweep.clear(plays)
    return ends


def _end(play: Play) -> dict[str, Any]:
    dump = play.world.dump(play.namespace)
    return {key: _without_history(value) for key, value in dump.items() if "times that" not in key}


def _without_history(value: Any) -> Any:
    """What tells how often the spec was changed is another after changes."""
    if isinstance(value, dict):
        return {key: _without_history(item) for key, item in value.items() if key not in ("observedGeneration", "scaling")}
    return [_without_history(item) for item in value] if isinstance(value, list) else value


async def _judged(play: Play, kind: str, name: str) -> None:
    """Until the operator has said something of the newest generation."""

    def told() -> bool:
        found = play.get(kind, name)
        return bool(condition(found["status"], "Accepted")["observedGeneration"] == found["metadata"]["generation"])

    await play.until(told, "the newest spec is judged")


async def _try(play: Play, kind: str, name: str, spec: Any, *, exists: bool) -> bool:
    """Give a resource that spec, whole; False if the apiserver refuses it as bad, which it must say in so many words."""
    manifest: Manifest = {
        "apiVersion": "eagleray.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": play.namespace},
        "spec": spec,
    }
    try:
        if exists:
            path = f"/apis/eagleray.io/v1alpha1/namespaces/{play.namespace}/{kind.lower()}s/{name}"
            version = (await play.api.request("GET", path))["metadata"]["resourceVersion"]
            manifest["metadata"]["resourceVersion"] = version
            await play.api.request("PUT", f"{path}?fieldValidation=Strict", manifest)
        else:
            path = f"/apis/eagleray.io/v1alpha1/namespaces/{play.namespace}/{kind.lower()}s"
            await play.api.request("POST", f"{path}?fieldValidation=Strict", manifest)
    except ApiError as error:
        if error.status == 409 and exists:
            return await _try(play, kind, name, spec, exists=exists)
        if error.status not in (400, 422):
            raise
        return False
    return True


REQUESTS: dict[str, type[faults.Chance]] = {
    "T5 conflicts": faults.Conflicts,
    "T6 slow": faults.Slow,
    "T6 throttled": faults.Throttled,
    "T6 500 to 504": faults.ServerErrors,
    "T6 refused": faults.Refusals,
    "T7 connections": faults.BrokenConnections,
}
"""What spoils requests one by one."""

WATCHES: dict[str, type[faults.Chance]] = {
    "T3 late events": faults.LateEvents,
    "T3 back in time": faults.TimeTravel,
    "T4 unobserved": faults.Unobserved,
    "T7 watches": faults.BrokenWatches,
    "T7 silent watches": faults.HalfOpen,
}

WHOLE: dict[str, Perform] = {
    "T1 killed at writes": killed(writes=1),
    "T2 killed at events": killed(events=1),
    **{name: chance({name: kind}) for name, kind in (WATCHES | REQUESTS).items()},
    "T6 outage": outage,
    "T6 forbidden": forbidden,
    "T8 bad deployments": bad_specs("ModelDeployment"),
    "T8 bad jobs": bad_specs("TrainingJob"),
    "T9 two leaders": leaders,
    "T11 quiet": at_rest(quiet),
    "T12 upgrade": at_rest(upgrade),
}

SAMPLE: dict[str, Perform] = {
    "T1 killed at some writes": killed(writes=36),
    "T1 and T2 killed": killed(writes=9, events=24),
    "T3 to T7 watches": chance({"T3 to T7 watches": faults.AnyWatch}),
    # Each namespace has a fault of its own.
    "T5 to T7 requests": chance(REQUESTS),
    **{name: WHOLE[name] for name in ("T6 outage", "T6 forbidden", "T8 bad deployments", "T8 bad jobs", "T9 two leaders")},
    "T11 and T12 at rest": at_rest(quiet, upgrade),
}
"""The same in a few minutes: a part of the points, and faults of one sort side by side."""
