"""The proxy of the fault tests does to requests and watches what its faults say, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.faults import faults
from tests.faults.faults import Freeze, Point
from tests.faults.proxy import Answer, Call, Fault, Proxy

PODS = "/api/v1/namespaces/team/pods"


class Upstream:
    """An apiserver that remembers what it was asked, and tells a watch what it is given."""

    url = ""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def session(self, **more: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(**more)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        if "watch" not in request.query:
            return web.json_response({"done": True})
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    def tell(self, type_: str, name: str, version: int, namespace: str = "team") -> None:
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
        self.events.put_nowait({"type": type_, "object": {"metadata": metadata}})


class Bench:
    def __init__(self, upstream: Upstream, proxy: Proxy, base: str, session: aiohttp.ClientSession) -> None:
        self.upstream, self.proxy, self._base, self._session = upstream, proxy, base, session

    async def ask(self, method: str = "GET", path: str = PODS) -> int:
        async with self._session.request(method, self._base + path) as answer:
            await answer.read()
            return answer.status

    async def watch(self, count: int, version: int = 1) -> list[tuple[str, str, str]]:
        """So many events of a watch, or as many as come before it ends."""
        found = []
        async with self._session.get(f"{self._base}{PODS}?watch=true&resourceVersion={version}") as answer:
            async for line in answer.content:
                event = json.loads(line)
                metadata = event["object"].get("metadata", {})
                found.append((event["type"], metadata.get("name", ""), metadata.get("resourceVersion", "")))
                if len(found) == count:
                    break
        return found


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    upstream = Upstream()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with Proxy(upstream) as proxy, aiohttp.ClientSession() as session:  # type: ignore[arg-type]
        yield Bench(upstream, proxy, await proxy.address("one"), session)
        upstream.events.put_nowait(None)
    await runner.cleanup()


async def test_without_a_fault_all_passes_and_is_written_down(bench: Bench) -> None:
    assert await bench.ask("PATCH", f"{PODS}/a/status?force=true") == 200
    assert bench.upstream.asked == [f"PATCH {PODS}/a/status?force=true"]
    [call] = bench.proxy.writes("team")
    assert (call.operator, call.plural, call.name, call.subresource, call.status) == ("one", "pods", "a", "status", 200)


@pytest.mark.parametrize(
    ("path", "namespace", "plural", "name"),
    [
        ("/apis/ray.io/v1/namespaces/team/rayjobs/a", "team", "rayjobs", "a"),
        ("/apis/ray.io/v1/rayjobs", "", "rayjobs", ""),
        ("/api/v1/namespaces/team", "", "namespaces", "team"),
        ("/apis/ray.io/v1", "", "", ""),
    ],
)
async def test_a_request_is_known_by_its_path(bench: Bench, path: str, namespace: str, plural: str, name: str) -> None:
    await bench.ask(path=path)
    call = bench.proxy.journal[-1]
    assert (call.namespace, call.plural, call.name) == (namespace, plural, name)


async def test_reads_leases_reviews_and_events_are_no_writes(bench: Bench) -> None:
    await bench.ask("GET")
    for plural in ("apis/coordination.k8s.io/v1/namespaces/x/leases/a", "apis/events.k8s.io/v1/namespaces/x/events"):
        await bench.ask("POST", f"/{plural}")
    assert bench.proxy.writes() == []


class Instead(Fault):
    async def before(self, call: Call) -> Answer | None:
        return Answer.error(429, retry_after=7)


async def test_an_answer_in_the_stead_of_the_apiservers_never_reaches_it(bench: Bench) -> None:
    bench.proxy.fault = Instead()
    assert await bench.ask() == 429
    assert bench.upstream.asked == []


async def test_what_breaks_off_after_the_deed_was_done(bench: Bench) -> None:
    bench.proxy.fault = faults.BrokenConnections(seed=1)
    broken = done = 0
    for _ in range(100):
        before = len(bench.upstream.asked)
        try:
            await bench.ask("POST")
        except aiohttp.ClientError:
            broken += 1
            done += len(bench.upstream.asked) - before
    assert broken > 5
    assert 0 < done < broken, "some break off before, some after"


@pytest.mark.parametrize(("when", "reached"), [("before", 1), ("after", 2)])
async def test_a_namespace_is_frozen_at_its_write_and_others_go_on(bench: Bench, when: str, reached: int) -> None:
    freeze = bench.proxy.fault = Freeze({"team": Point(1, when)})
    assert await bench.ask("POST") == 200
    frozen = [asyncio.create_task(bench.ask("POST")) for _ in range(1)]
    await asyncio.sleep(0.1)
    frozen.append(asyncio.create_task(bench.ask("PATCH", f"{PODS}/a")))
    await asyncio.sleep(0.1)
    assert freeze.frozen == {"team"}
    assert not any(task.done() for task in frozen)
    assert len(bench.upstream.asked) == reached
    assert await bench.ask() == 200, "reads go on"
    assert await bench.ask("POST", "/api/v1/namespaces/other/pods") == 200
    freeze.release()
    ends = await asyncio.gather(*frozen, return_exceptions=True)
    assert all(isinstance(end, aiohttp.ClientError) for end in ends)


async def test_a_namespace_is_frozen_after_an_event(bench: Bench) -> None:
    freeze = bench.proxy.fault = Freeze({"team": Point(1, "on")})
    for version in (2, 3):
        bench.upstream.tell("MODIFIED", "a", version)
    assert len(await bench.watch(2)) == 2
    await asyncio.sleep(0.05)
    assert freeze.frozen == {"team"}


async def test_late_events_keep_the_order_of_their_namespace(bench: Bench) -> None:
    bench.proxy.fault = faults.LateEvents(seed=3)
    for version in range(4):
        bench.upstream.tell("MODIFIED", "a", version)
    assert [version for _, _, version in await bench.watch(4)] == ["0", "1", "2", "3"]


async def test_a_deletion_and_a_new_object_of_the_name_come_as_one_change(bench: Bench) -> None:
    bench.proxy.fault = faults.Unobserved(seed=0)
    bench.upstream.tell("DELETED", "a", 5)
    bench.upstream.tell("ADDED", "a", 6)
    bench.upstream.tell("MODIFIED", "b", 7)
    assert await bench.watch(2) == [("MODIFIED", "a", "6"), ("MODIFIED", "b", "7")]


async def test_a_watch_that_begins_again_is_sent_back_to_where_the_first_began(bench: Bench) -> None:
    bench.proxy.fault = faults.TimeTravel(seed=1)
    for version in (10, 20):
        bench.upstream.tell("MODIFIED", "a", version)
        await bench.watch(1, version)
    assert [asked.rsplit("=", 1)[1] for asked in bench.upstream.asked] == ["10", "10"]


async def test_an_outage_ends_watches_and_itself(bench: Bench) -> None:
    bench.proxy.fault = faults.Outage(0.2, 0.3)
    watching = asyncio.create_task(bench.watch(1))
    await asyncio.sleep(0.3)
    assert await bench.ask() == 503
    assert await asyncio.wait_for(watching, 1) == []
    await asyncio.sleep(0.3)
    assert await bench.ask() == 200
