"""Open Inference Protocol v2 over HTTP, as a plain ASGI application.

No framework and no per-request validation model: on a small model these cost more than the model. Answers that are not
inference results are serialised once.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import orjson

from eagleray_runtime.errors import RuntimeFailure
from eagleray_runtime.serving.metering import Meter
from eagleray_runtime.serving.model import NOBODY_GONE, ServedModel
from eagleray_runtime.serving.tensors import BadTensorError, Tensor, binary_texts, decode, parameters_of

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST_BODY = 64 * 1024 * 1024
LONG_WORK = 20_000_000
"""Multiplications (rows times parameters) above which a request leaves the event loop: about 10 ms of one core."""

LARGE_BODY = 256 * 1024
"""Bytes of a body above which even reading it leaves the event loop: numbers in JSON take as long by then."""

JSON, OCTETS = b"application/json", b"application/octet-stream"
READABLE = frozenset({JSON, OCTETS, b"application/x-www-form-urlencoded"})
"""Content types of a request; the last is what `curl -d @request.json` says of any body."""

CLIENT_GONE = 499
"""Status by which a request is counted whose client did not wait for the answer; HTTP has none, servers have agreed on it."""

HEADER_LENGTH = b"inference-header-content-length"
TEXT_HEADERS = (b"content-type", b"content-length", b"content-encoding", HEADER_LENGTH)


class RequestRefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Answer(NamedTuple):
    """A complete HTTP answer; `header_length` is that of the JSON before binary tensors, None without any."""

    status: int
    body: bytes
    header_length: int | None = None


class Request(NamedTuple):
    """A request that is read; `wanted` are the outputs to send, in order, and whether each goes as binary."""

    id: str | None
    tensors: list[Tensor]
    parameters: dict[str, Any]
    wanted: dict[str, bool]


class OpenInference:
    """The application: routes, errors and inference of one model."""

    def __init__(self, model: ServedModel, meter: Meter, clock: Callable[[], float] = time.perf_counter) -> None:
        self._model, self._meter, self._clock = model, meter, clock
        server = {"name": "eagleray", "version": version("eagleray"), "extensions": ["binary_tensor_data"]}
        ready = _json({"name": model.name, "ready": True})
        metadata = _json(model.metadata)
        base = f"/v2/models/{model.name}"
        self._pages = {
            "/v2": _json(server),
            "/v2/health/live": _json({"live": True}),
            "/v2/health/ready": _json({"ready": True}),
        }
        self._infer_paths = set()
        for path in (base, f"{base}/versions/{model.version}"):
            self._pages |= {path: metadata, f"{path}/ready": ready}
            self._infer_paths.add(f"{path}/infer")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003, "reason": "websockets are not part of the protocol"})
            return
        path = self._path(scope)
        if path in self._infer_paths:
            began = self._clock()
            try:
                answer = await self._infer(scope, receive)
            except (RequestRefusedError, BadTensorError) as error:
                answer = _refusal(error)
            except RuntimeFailure as error:
                log.error("a request was answered with 500: %s", error.message)
                answer = _failure(error.message)
            except Exception as error:
                log.exception("a request was answered with 500 for an error that nothing expects")
                answer = _failure(
                    f"the model did not answer for an unexpected error ({type(error).__name__}: {error}): "
                    "the replica's log tells where; if the request is as the model's metadata say, report it"
                )
            except asyncio.CancelledError:
                self._meter.answered(CLIENT_GONE, self._clock() - began)
                raise
            self._meter.answered(answer.status, self._clock() - began)
        else:
            answer = self._page(path, scope["method"])
        await _respond(send, answer)

    def _path(self, scope: Scope) -> str:
        """The path within the protocol: the application may be mounted below a prefix, or below a path of the protocol."""
        path: str = scope["path"]
        if path in self._infer_paths or path in self._pages:
            return path
        return path.removeprefix(scope.get("root_path") or "") or "/"

    def _page(self, path: str, method: str) -> Answer:
        page = self._pages.get(path)
        if page is not None:
            if method in ("GET", "HEAD"):
                return Answer(HTTPStatus.OK, page)
            return _refusal(RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes GET, not {method}"))
        names = path.split("/")
        if path.startswith("/v2/models/") and names[3] != self._model.name:
            message = f"model {names[3]} is not served here: this is {self._model.name}"
        elif path.startswith("/v2/models/") and names[4:5] == ["versions"] and names[5:6] != [self._model.version]:
            message = f"version {''.join(names[5:6])} of {self._model.name} is not served here: this is {self._model.version}"
        else:
            message = f"{path} is not a path of the Open Inference Protocol v2: start at /v2 or /v2/models/{self._model.name}"
        return _refusal(RequestRefusedError(HTTPStatus.NOT_FOUND, message))

    async def _infer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            raise RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"infer takes POST, not {scope['method']}")
        headers = {name: value for name, value in scope["headers"] if name in TEXT_HEADERS}
        _require_readable(headers)
        body = await _body(receive, headers.get(b"content-length"))
        header_length = headers.get(HEADER_LENGTH)
        if len(body) > LARGE_BODY:
            return await _beside(lambda gone: self._computed(self._read(body, header_length), gone), receive)
        request = self._read(body, header_length)
        values = request.tensors[0].values
        rows = len(values) if values.ndim else 0
        if rows * self._model.work + len(body) * self._model.byte_work > LONG_WORK:
            return await _beside(lambda gone: self._computed(request, gone), receive)
        return self._computed(request, NOBODY_GONE)

    def _read(self, body: bytes, header_length: bytes | None) -> Request:
        request, binary = _parse(body, header_length)
        tensors: list[Tensor] = []
        for item in request["inputs"]:
            tensor, taken = decode(item, binary, self._model.files)
            tensors.append(tensor)
            if taken and binary is not None:
                binary = binary[taken:]
        if binary is not None and len(binary):
            raise BadTensorError(f"{len(binary)} bytes after the tensors belong to no input")
        id_ = request.get("id")
        if id_ is not None and not isinstance(id_, str):
            raise BadTensorError("id must be a string")
        parameters = parameters_of(request, "the request")
        return Request(id_, tensors, parameters, self._wanted(request.get("outputs"), parameters))

    def _wanted(self, outputs: Any, parameters: dict[str, Any]) -> dict[str, bool]:
        """Outputs to send, in order, and whether each goes as binary."""
        binary = parameters.get("binary_data_output") is True
        if not outputs:
            return dict.fromkeys(self._model.outputs, binary)
        if not isinstance(outputs, list):
            raise BadTensorError("outputs must be a list")
        wanted = {}
        for output in outputs:
            name = output.get("name") if isinstance(output, dict) else None
            if not isinstance(name, str) or name not in self._model.outputs:
                raise BadTensorError(f"output {name} is not one of the model: it gives {', '.join(self._model.outputs)}")
            own = parameters_of(output, "output", name)
            if "classification" in own:
                raise BadTensorError(
                    f"output {name}: the classification extension is not supported: ask for label and probabilities"
                )
            wanted[name] = own.get("binary_data", binary) is True
        return wanted

    def _computed(self, request: Request, gone: threading.Event) -> Answer:
        results = self._model.infer(request.tensors, request.parameters, gone)
        blobs: list[bytes] = []
        outputs = []
        for name, as_binary in request.wanted.items():
            values = results[name]
            datatype = self._model.outputs[name]
            output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
            if as_binary:
                blob = binary_texts(values) if datatype == "BYTES" else values.astype("<f8").tobytes()
                output["parameters"] = {"binary_data_size": len(blob)}
                blobs.append(blob)
            else:
                # A list is faster than NumPy serialisation up to some hundred values, and most answers are short.
                output["data"] = (
                    values.ravel().tolist() if values.size < 256 or datatype == "BYTES" else np.ascontiguousarray(values.ravel())
                )
            outputs.append(output)
        answer = {"model_name": self._model.name, "model_version": self._model.version, "outputs": outputs}
        if request.id is not None:
            answer["id"] = request.id
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return Answer(HTTPStatus.OK, b"".join([head, *blobs]), len(head)) if blobs else Answer(HTTPStatus.OK, head)


async def _beside(compute: Callable[[threading.Event], Answer], receive: Receive) -> Answer:
    """Compute an answer in a thread, which is told when the client goes.

    Serve does not watch for that: see `middleware`.
    """
    gone = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(compute, gone))
    left = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        gone.set()
        # Until the thread has stopped, for the replica is busy with the request.
        await work
        raise _gone()
    finally:
        gone.set()
        left.cancel()
        work.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _require_readable(headers: dict[bytes, bytes]) -> None:
    type_ = headers.get(b"content-type", JSON).split(b";", 1)[0].strip().lower()
    if type_ not in READABLE:
        raise RequestRefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content type {type_.decode('latin-1')} is not supported: send application/json"
        )
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestRefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "compressed requests are not supported: send them plain")


async def _body(receive: Receive, announced: bytes | None) -> bytes:
    if announced is not None and _length(announced) > LARGEST_BODY:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _gone()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _gone()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise _too_large()
    return b"".join(parts)


def _gone() -> RequestRefusedError:
    return RequestRefusedError(CLIENT_GONE, "the client went away before it was answered")


def _too_large() -> RequestRefusedError:
    return RequestRefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is larger than {LARGEST_BODY} bytes: send fewer rows at a time"
    )


def _parse(body: bytes, header_length: bytes | None) -> tuple[dict[str, Any], memoryview | None]:
    """The request's JSON, and the bytes after it with the binary extension."""
    binary = None
    if header_length is not None:
        length = _length(header_length)
        if not 0 <= length <= len(body):
            raise BadTensorError("Inference-Header-Content-Length must be the length of the JSON before the binary tensors")
        binary = memoryview(body)[length:]
        body = body[:length]
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadTensorError(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list) or not request["inputs"]:
        raise BadTensorError("the request must be an object with a list of inputs")
    return request, binary


def _length(header: bytes) -> int:
    """The number of bytes that a header tells, -1 where it tells none."""
    if not header.isdigit():
        return -1
    # Python refuses to read thousands of digits.
    return int(header) if len(header) < 20 else sys.maxsize


def _failure(message: str) -> Answer:
    # The words of others may hold what JSON does not.
    return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _json({"error": message.encode(errors="replace").decode()}))


def _refusal(error: Exception) -> Answer:
    status = error.status if isinstance(error, RequestRefusedError) else HTTPStatus.BAD_REQUEST
    return Answer(status, _json({"error": str(error)}))


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


async def _respond(send: Send, answer: Answer) -> None:
    body = answer.body
    headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
    if answer.header_length is not None:
        headers[0] = (b"content-type", OCTETS)
        headers.append((HEADER_LENGTH, b"%d" % answer.header_length))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
