"""The lean request path in front of Serve's own."""

from starlette.middleware import Middleware

from eagleray_runtime.contract.names import SERVE_MIDDLEWARE
from eagleray_runtime.serving import middleware


async def passed_on(lean, path, headers):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    await lean(app)({"type": "http", "path": path, "headers": headers}, None, None)
    return dict(seen["headers"])


async def test_an_inference_keeps_what_matters_and_is_not_watched():
    headers = [(b"content-type", b"application/json"), (b"x-forwarded-for", b"192.0.2.1"), (b"user-agent", b"curl")]
    found = await passed_on(middleware.Lean, "/v2/models/m/infer", headers)
    assert found.pop(b"x-request-id")
    assert found == {b"content-type": b"application/json", b"x-request-disconnect-disabled": b"?1"}


async def test_a_request_id_of_the_client_is_kept():
    found = await passed_on(middleware.Lean, "/v2/models/m/infer", [(b"x-request-id", b"7")])
    assert found[b"x-request-id"] == b"7"


async def test_request_ids_differ():
    app = middleware.Lean
    ids = [(await passed_on(app, "/v2/models/m/infer", []))[b"x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3


async def test_other_paths_are_left_to_serve():
    headers = [(b"user-agent", b"curl")]
    assert await passed_on(middleware.Lean, "/v1/chat/completions", headers) == dict(headers)


def test_the_contract_names_the_function_that_serve_calls():
    module, _, function = SERVE_MIDDLEWARE.rpartition(".")
    assert module == middleware.__name__
    (found,) = getattr(middleware, function)()
    assert isinstance(found, Middleware)
