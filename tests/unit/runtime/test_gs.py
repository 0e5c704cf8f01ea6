"""How Google Cloud Storage is reached: whose keys open it, and what is told when it does not open."""

import asyncio
import json
import pickle
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage import Store
from eagleray_runtime.storage.gs import _of_the_pod

TOKEN = "token-of-the-account"


class Google(BaseHTTPRequestHandler):
    """Gives a token for any signed request, and the file `hi` to who has it; to others it says no as Google does.

    A `public` one gives it to all; a `status` other than 200 is all that it answers. Of a `stranger` it knows no key.
    """

    status, public, stranger = 200, False, False

    def do_POST(self):
        if self.stranger:
            self.answer(400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
            return
        self.answer(200, json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode())

    def do_GET(self):
        if self.status != 200:
            self.answer(self.status, b'{"error": {"code": %d, "message": "Not now"}}' % self.status)
        elif self.public or self.headers["Authorization"] == f"Bearer {TOKEN}":
            self.answer(200, b"hi")
        else:
            self.answer(403, b'{"error": {"code": 403, "message": "Caller does not have storage.objects.get access"}}')

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


def served(port=0, **answers):
    return ThreadingHTTPServer(("127.0.0.1", port), type("Google", (Google,), answers))


@pytest.fixture
def google():
    """Starts it, to answer with a status; returns the address."""
    servers = []

    def start(port=0, **answers):
        servers.append(served(port, **answers))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path):
    """A folder of a bucket with a Secret of these keys."""

    def make(**keys):
        for name, value in keys.items():
            (tmp_path / name).write_text(value)
        return Store(Location(uri="gs://bucket/path", secret_directory=str(tmp_path)))

    return make


def service_account(address):
    """A key as Google's console hands it out."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    key = {"type": "service_account", "private_key_id": "1", "private_key": pem, "client_email": "a@b.iam"}
    return json.dumps(key | {"token_uri": f"{address}/token"})


def test_the_key_of_a_service_account_opens_the_bucket(store, google):
    address = google()
    opened = store(GOOGLE_APPLICATION_CREDENTIALS=service_account(address), STORAGE_EMULATOR_HOST=address)
    assert opened.read("x") == b"hi"


def test_workers_that_a_store_is_sent_to_have_its_key(store, google):
    address = google()
    opened = store(GOOGLE_APPLICATION_CREDENTIALS=service_account(address), STORAGE_EMULATOR_HOST=address)
    sent = pickle.loads(pickle.dumps(opened._files))  # noqa: S301 - as Ray does
    assert sent.cat_file("bucket/x") == b"hi"


def test_without_a_secret_the_pods_own_identity_opens_it(google, tmp_path, monkeypatch):
    address = google()
    (tmp_path / "key.json").write_text(service_account(address))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    _of_the_pod.cache_clear()
    assert Store(Location(uri="gs://bucket/path")).read("x") == b"hi"
    _of_the_pod.cache_clear()


def test_who_may_not_read_is_told_what_to_check(store, google):
    words = r"cannot read x: Caller does not have storage.objects.get access: check the keys of the secret"
    with pytest.raises(StoreRefused, match=words):
        store(STORAGE_EMULATOR_HOST=google()).read("x")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "the secret does not exist or is empty: it needs GOOGLE_APPLICATION_CREDENTIALS or STORAGE_EMULATOR_HOST"),
        ({"key.json": "{}"}, "the secret holds key.json alone: it needs GOOGLE_APPLICATION_CREDENTIALS"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/var/key.json"}, "is not the JSON file of a service account's key"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "[]"}, "is not the JSON file of a service account's key"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": '{"type": "authorized_user"}'}, "is not the JSON file of a service account's key"),
    ],
)
def test_a_secret_that_opens_nothing_is_told(store, keys, words):
    with pytest.raises(StoreRefused, match=words):
        store(**keys)


def test_a_store_that_is_away_for_a_moment_is_waited_for(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    servers = []

    def come_back():
        time.sleep(0.3)
        servers.append(served(port, public=True))
        servers[0].serve_forever()

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        assert store(STORAGE_EMULATOR_HOST=f"127.0.0.1:{port}").read("x") == b"hi"
    finally:
        servers[0].shutdown()
        thread.join()
        servers[0].server_close()


def test_a_service_of_tokens_that_is_away_for_a_moment_is_waited_for(store, google, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    async def come_back(*_):
        google(port)

    opened = store(
        GOOGLE_APPLICATION_CREDENTIALS=service_account(f"http://127.0.0.1:{port}"), STORAGE_EMULATOR_HOST=google(public=True)
    )
    monkeypatch.setattr(asyncio, "sleep", come_back)
    assert opened.read("x") == b"hi"


def test_a_key_that_google_does_not_know_is_told(store, google, monkeypatch):
    async def wait(*_):
        """Not at all."""

    address = google(stranger=True)
    opened = store(GOOGLE_APPLICATION_CREDENTIALS=service_account(address), STORAGE_EMULATOR_HOST=address)
    monkeypatch.setattr(asyncio, "sleep", wait)
    with pytest.raises(StoreRefused, match=r"cannot read x: Invalid Credentials, 401: check the keys of the secret"):
        opened.read("x")


def test_a_store_that_cannot_do_it_now_is_asked_again_for_a_minute(store, google, monkeypatch):
    waits = []

    async def wait(seconds, *_):
        waits.append(seconds)

    opened = store(STORAGE_EMULATOR_HOST=google(status=503))
    monkeypatch.setattr(asyncio, "sleep", wait)
    with pytest.raises(StoreRefused, match=r"cannot read x: Not now, 503: check the store's address"):
        opened.read("x")
    assert 60 < sum(waits) < 70
