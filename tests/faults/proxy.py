"""A proxy between an operator and the apiserver: it keeps a journal of every request, and a fault may spoil any of them."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.faults.api import Server

WRITES = ("POST", "PUT", "PATCH", "DELETE")
UNCOUNTED = ("leases", "tokenreviews", "events")
"""Writes that are no part of the state that is compared."""

FORWARDED = ("Authorization", "Accept", "Content-Type", "User-Agent")


@dataclass
class Call:
    """One request of an operator."""

    operator: str
    method: str
    url: URL
    namespace: str
    plural: str
    name: str
    subresource: str
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    number: int | None = None
    """Which write of its namespace it is, where somebody counts."""

    @classmethod
    def of(cls, operator: str, request: web.Request) -> "Call":
        parts = [part for part in request.path.split("/") if part]
        # /api/v1/... or /apis/group/version/...
        rest = parts[2:] if parts[:1] == ["api"] else parts[3:]
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = [*rest, "", "", ""][:3]
        return cls(operator, request.method, request.rel_url, namespace, plural, name, subresource)

    @property
    def writes(self) -> bool:
        """Whether it is a write that counts."""
        return self.method in WRITES and self.plural not in UNCOUNTED

    @property
    def watches(self) -> bool:
        return "watch" in self.url.query

    def __str__(self) -> str:
        tail = f"/{self.subresource}" if self.subresource else ""
        return f"{self.method} {self.plural}/{self.name}{tail} in {self.namespace}: {self.status}"


@dataclass(frozen=True)
class Answer:
    """What the operator gets; `cut` leaves the end of the body out."""

    status: int
    body: bytes
    retry_after: int | None = None
    cut: bool = False

    @classmethod
    def error(cls, status: int, reason: str = "Injected", retry_after: int | None = None) -> "Answer":
        words = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
        return cls(status, json.dumps(words | {"message": f"injected {status}"}).encode(), retry_after)


class ResetError(Exception):
    """The connection breaks without an answer."""


class Fault:
    """What may go wrong with a request; this one lets all be."""

    async def before(self, call: Call) -> Answer | None:
        """Before it reaches the apiserver: an answer in its stead, or None."""
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        """After the apiserver has done it: what the operator gets."""
        return answer

    def rewrite(self, call: Call) -> URL:
        """What is asked of the apiserver."""
        return call.url

    def stream(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines of a watch."""
        return lines

    def release(self) -> None:
        """Let go of all that is held."""


class Proxy:
    """One apiserver behind as many addresses as there are operators, so that each is known by its own."""

    def __init__(self, server: Server) -> None:
        self.fault = Fault()
        self.journal: list[Call] = []
        self._server = server
        self._runners: list[web.AppRunner] = []
        self._session: aiohttp.ClientSession | None = None
        self._watches: set[aiohttp.ClientResponse] = set()

    async def __aenter__(self) -> Self:
        self._session = self._server.session(auto_decompress=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.fault.release()
        for runner in self._runners:
            await runner.cleanup()
        assert self._session is not None
        await self._session.close()

    async def address(self, operator: str) -> str:
        """A new address, whose requests are those of that operator."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handle(operator, request)

        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def writes(self, namespace: str | None = None, since: float = 0.0) -> list[Call]:
        """Writes that count, in their order."""
        return [
            call
            for call in self.journal
            if call.writes and call.began >= since and (namespace is None or call.namespace == namespace)
        ]

    def spoil(self, fault: Fault) -> None:
        """From now on all meets this fault; watches that are open break off, as they would meet it only when begun again."""
        self.fault = fault
        for watch in self._watches:
            watch.close()

    async def _handle(self, operator: str, request: web.Request) -> web.StreamResponse:
        call = Call.of(operator, request)
        self.journal.append(call)
        fault = self.fault
        try:
            body = await request.read()
            answer = await fault.before(call)
            if answer is None:
                if call.watches:
                    return await self._watch(call, request, fault)
                answer = await fault.after(call, await self._ask(call, request, body, fault))
            call.status = answer.status
            return await self._answer(request, answer)
        except (ResetError, ConnectionError, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _ask(self, call: Call, request: web.Request, body: bytes, fault: Fault) -> Answer:
        assert self._session is not None
        url = self._server.url + str(fault.rewrite(call))
        async with self._session.request(
            call.method, URL(url, encoded=True), data=body or None, headers=_headers(request)
        ) as found:
            return Answer(found.status, await found.read())

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        headers = {"Content-Type": "application/json"}
        if answer.retry_after is not None:
            headers["Retry-After"] = str(answer.retry_after)
        if not answer.cut:
            return web.Response(status=answer.status, body=answer.body, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers | {"Content-Length": str(len(answer.body))})
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
        raise ResetError

    async def _watch(self, call: Call, request: web.Request, fault: Fault) -> web.StreamResponse:
        assert self._session is not None
        url = self._server.url + str(fault.rewrite(call))
        async with self._session.get(URL(url, encoded=True), headers=_headers(request)) as found:
            call.status = found.status
            if found.status != 200:
                return await self._answer(request, Answer(found.status, await found.read()))
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            self._watches.add(found)
            try:
                async for line in fault.stream(call, _lines(found.content)):
                    await response.write(line)
            finally:
                self._watches.discard(found)
            return response


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    async for line in content:
        yield line


def _headers(request: web.Request) -> "CIMultiDict[str]":
    return CIMultiDict((key, request.headers[key]) for key in FORWARDED if key in request.headers)


def address_of(event: bytes) -> tuple[str, str, Any]:
    """Type, namespace and object of a line of a watch."""
    parsed = json.loads(event)
    found = parsed["object"]
    return parsed["type"], (found.get("metadata") or {}).get("namespace", ""), found
