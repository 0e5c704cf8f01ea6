"""The faults: each spoils requests or watches in one way. All chances come from a seed."""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from yarl import URL

from tests.faults.proxy import Answer, Call, Fault, ResetError, address_of


@dataclass(frozen=True)
class Point:
    """A moment in the life of a namespace: before or after its nth write, or after the nth event that the operator got of it."""

    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {'event' if self.when == 'on' else 'write'} {self.number}"


class Freeze(Fault):
    """Stops each namespace at its own point: from there on none of its writes gets through, so that a kill hits all at theirs.

    Whoever wrote waits for an answer; to the operator's other work nothing happens.
    """

    def __init__(self, points: dict[str, Point]) -> None:
        self.frozen: set[str] = set()
        self._points = points
        self._seen: Counter[str] = Counter()
        self._released = asyncio.Event()

    async def before(self, call: Call) -> Answer | None:
        point = self._points.get(call.namespace)
        if point is None or not call.writes:
            return None
        if call.namespace in self.frozen:
            await self._hold()
        if point.when != "on":
            call.number = self._seen[call.namespace]
            self._seen[call.namespace] += 1
            if point.when == "before" and call.number == point.number:
                self.frozen.add(call.namespace)
                await self._hold()
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        point = self._points.get(call.namespace)
        if point is not None and point.when == "after" and call.number == point.number:
            self.frozen.add(call.namespace)
            await self._hold()
        return answer

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            yield line
            _, namespace, _ = address_of(line)
            point = self._points.get(namespace)
            if point is not None and point.when == "on" and namespace not in self.frozen:
                self._seen[namespace] += 1
                if self._seen[namespace] > point.number:
                    self.frozen.add(namespace)

    def release(self) -> None:
        self._released.set()

    async def _hold(self) -> None:
        await self._released.wait()
        raise ResetError


class Chance(Fault):
    """A fault that hits by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.hits = 0

    def hit(self, share: float) -> bool:
        if self.random.random() >= share:
            return False
        self.hits += 1
        return True


class Shared(Fault):
    """Requests of a namespace meet the fault of its own, those for all namespaces meet the faults in turn."""

    def __init__(self, of: dict[str, Fault]) -> None:
        self._of = of
        self._turns = itertools.cycle(list(dict.fromkeys(of.values())))

    async def before(self, call: Call) -> Answer | None:
        return await self._pick(call).before(call)

    async def after(self, call: Call, answer: Answer) -> Answer:
        return await self._pick(call).after(call, answer)

    def _pick(self, call: Call) -> Fault:
        return self._of.get(call.namespace) or next(self._turns)


class Slow(Chance):
    """Answers take up to seconds, a few of them much longer than the rest."""

    async def before(self, call: Call) -> Answer | None:
        if not call.watches and self.hit(0.5):
            await asyncio.sleep(self.random.expovariate(4))
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        if self.hit(0.3):
            await asyncio.sleep(min(5.0, self.random.expovariate(2)))
        return answer


class Conflicts(Chance):
    """Three of ten changes are answered 409, as if the object had changed meanwhile."""

    async def before(self, call: Call) -> Answer | None:
        if call.writes and call.method == "PATCH" and self.hit(0.3):
            return Answer.error(409, "Conflict")
        return None


class Refusals(Chance):
    """One of ten changes is answered 422 or 403, though nothing is wrong with it."""

    async def before(self, call: Call) -> Answer | None:
        if call.writes and self.hit(0.1):
            return Answer.error(self.random.choice((422, 403)), "Invalid")
        return None


class Throttled(Chance):
    """One of five requests is answered 429 and asked to come again in a second."""

    async def before(self, call: Call) -> Answer | None:
        if call.plural != "leases" and self.hit(0.2):
            return Answer.error(429, "TooManyRequests", retry_after=1)
        return None


class ServerErrors(Chance):
    """One of five requests is answered 500, 503 or 504, before or after it was done."""

    async def before(self, call: Call) -> Answer | None:
        if call.plural != "leases" and self.hit(0.1):
            return Answer.error(self.random.choice((500, 503, 504)), "InternalError")
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.plural != "leases" and self.hit(0.1):
            return Answer.error(self.random.choice((500, 504)), "Timeout")
        return answer


class BrokenConnections(Chance):
    """One of five requests breaks off: before it was sent, after it was done, or in the middle of the answer."""

    async def before(self, call: Call) -> Answer | None:
        if call.plural != "leases" and self.hit(0.07):
            raise ResetError
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.plural != "leases" and self.hit(0.13):
            if self.random.random() < 0.5:
                raise ResetError
            return replace(answer, cut=True)
        return answer


class Outage(Fault):
    """Nothing is answered but 503 for some seconds, and all watches break off; then all is well."""

    def __init__(self, after_seconds: float, seconds: float) -> None:
        self.begins = time.monotonic() + after_seconds
        self.ends = self.begins + seconds

    @property
    def now(self) -> bool:
        return self.begins <= time.monotonic() < self.ends

    async def before(self, call: Call) -> Answer | None:
        return Answer.error(503, "ServiceUnavailable") if self.now else None

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _until(lines, self.begins):
            yield line
        if time.monotonic() >= self.ends:
            async for line in lines:
                yield line


class Forbidden(Fault):
    """All is answered 403 for some seconds, as while the rights are replaced, and all watches break off; then all is well."""

    def __init__(self, after_seconds: float, seconds: float) -> None:
        self._outage = Outage(after_seconds, seconds)

    async def before(self, call: Call) -> Answer | None:
        return Answer.error(403, "Forbidden") if self._outage.now and call.plural != "leases" else None

    def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return self._outage.stream(call, lines)


class LateEvents(Chance):
    """Every event of a namespace comes up to three seconds late, in the order of its namespace."""

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        lag: dict[str, float] = {}
        loop = asyncio.get_running_loop()
        pending: set[asyncio.Task[None]] = set()

        async def deliver(line: bytes, at: float) -> None:
            await asyncio.sleep(at - loop.time())
            queue.put_nowait(line)

        async def read() -> None:
            async for line in lines:
                type_, namespace, _ = address_of(line)
                if type_ == "BOOKMARK":
                    # It would say that all before it were sent.
                    continue
                at = max(lag.get(namespace, 0.0) + 0.001, loop.time() + self.random.uniform(0.1, 3.0))
                lag[namespace] = at
                self.hits += 1
                task = asyncio.create_task(deliver(line, at))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)
            queue.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (line := await queue.get()) is not None:
                yield line
        finally:
            reader.cancel()
            for task in list(pending):
                task.cancel()


class TimeTravel(Chance):
    """Watches break off every few seconds and then begin again from the past."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._first: dict[str, str] = {}

    def rewrite(self, call: Call) -> URL:
        version = call.url.query.get("resourceVersion")
        if not call.watches or version is None:
            return call.url
        first = self._first.setdefault(call.plural, version)
        self.hits += int(first != version)
        return call.url.update_query(resourceVersion=first)

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _until(lines, time.monotonic() + self.random.uniform(2, 6)):
            yield line


class Unobserved(Chance):
    """What happens to an object within a moment comes as one event: a deletion and a new object of the name as a change.

    And one of twenty events never comes at all.
    """

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        kept: dict[tuple[str, str], tuple[str, dict[str, object]]] = {}
        changed = asyncio.Event()

        async def read() -> None:
            async for line in lines:
                type_, namespace, found = address_of(line)
                key = (namespace, str((found.get("metadata") or {}).get("name", "")))
                if type_ == "BOOKMARK" or self.hit(0.05):
                    continue
                before = kept.pop(key, None)
                if before is not None:
                    self.hits += 1
                    if type_ == "ADDED" or (type_ == "MODIFIED" and before[0] == "MODIFIED"):
                        type_ = "MODIFIED"
                    elif type_ == "MODIFIED":
                        type_ = before[0]
                kept[key] = (type_, found)
                changed.set()

        reader = asyncio.create_task(read())
        try:
            while not (reader.done() and not kept):
                await asyncio.sleep(0.5)
                for type_, found in list(kept.values()):
                    yield json.dumps({"type": type_, "object": found}).encode() + b"\n"
                kept.clear()
        finally:
            reader.cancel()


class BrokenWatches(Chance):
    """Watches end every few seconds: cut, with half a line, with an error in the stream, or told that they are too old."""

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _until(lines, time.monotonic() + self.random.uniform(1, 8)):
            yield line
        self.hits += 1
        way = self.random.choice(("close", "reset", "half", "gone", "error"))
        if way == "reset":
            raise ResetError
        if way == "half":
            yield b'{"type": "MODIFIED", "object": {"kind": "Po\n'
        if way in ("gone", "error"):
            code = 410 if way == "gone" else 500
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "injected"}
            yield json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


class HalfOpen(Chance):
    """Watches stay open and tell nothing any more."""

    async def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in _until(lines, time.monotonic() + self.random.uniform(3, 6)):
            yield line
        self.hits += 1
        await asyncio.sleep(120)


class AnyWatch(Fault):
    """The watches of each kind meet one of the faults above; of the five kinds that change most each meets another one."""

    BUSY = ("trainingjobs", "modeldeployments", "rayjobs", "rayservices", "pods")

    def __init__(self, seed: int) -> None:
        self._faults = [kind(seed) for kind in (LateEvents, TimeTravel, Unobserved, BrokenWatches, HalfOpen)]
        random.Random(seed).shuffle(self._faults)  # noqa: S311
        self._turns = itertools.cycle(self._faults)
        self._of: dict[str, Chance] = dict(zip(self.BUSY, self._faults, strict=True))

    @property
    def hits(self) -> int:
        """How often the one hit that hit least."""
        return min(fault.hits for fault in self._faults)

    def rewrite(self, call: Call) -> URL:
        return self._pick(call).rewrite(call)

    def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return self._pick(call).stream(call, lines)

    def _pick(self, call: Call) -> Chance:
        return self._of.get(call.plural) or self._of.setdefault(call.plural, next(self._turns))


async def _until(lines: AsyncIterator[bytes], end: float) -> AsyncIterator[bytes]:
    """The lines that come before that moment."""
    reading = asyncio.ensure_future(anext(lines, None))
    try:
        while (left := end - time.monotonic()) > 0:
            done, _ = await asyncio.wait({reading}, timeout=left)
            if not done:
                return
            line = reading.result()
            if line is None:
                return
            yield line
            reading = asyncio.ensure_future(anext(lines, None))
    finally:
        reading.cancel()
