"""What Serve's HTTP path leaves out for inference requests.

Serve takes the function `lean` from `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` of the pods' environment. For each request
Serve would start a task that watches for the client to go away, draw two random ids and decode every header, those that the
load balancer added too. An inference of a few microseconds needs none of it; token streams do, so only `.../infer` is lean. The
application itself watches for the client of an answer that takes long.
"""

import itertools
import secrets

from starlette.middleware import Middleware
from starlette.types import ASGIApp

from eagleray_runtime.serving.protocol import HEADER_LENGTH, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
KEPT = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        HEADER_LENGTH,
        REQUEST_ID,
        b"x-request-timeout-seconds",
        b"traceparent",
        b"tracestate",
    }
)
UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


class Lean:
    """Keeps the headers that matter, and gives a request id that costs next to nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on (ASGI)."""
        if scope["type"] == "http" and scope["path"].endswith("/infer"):
            headers = [header for header in scope["headers"] if header[0] in KEPT]
            if all(name != REQUEST_ID for name, _ in headers):
                headers.append((REQUEST_ID, f"{self._process}-{next(self._numbers):x}".encode()))
            headers.append(UNWATCHED)
            scope["headers"] = headers
        await self._app(scope, receive, send)


def lean() -> list[Middleware]:
    """The middlewares that Serve wraps around a replica's HTTP server."""
    return [Middleware(Lean)]
