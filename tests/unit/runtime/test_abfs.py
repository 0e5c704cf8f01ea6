"""How Azure's stores are reached: which keys name an account, and how long one that is away is waited for."""

import asyncio
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import StoreRefused
from eagleray_runtime.storage import Store

KEY = "c2VjcmV0"


@pytest.fixture
def store(tmp_path):
    """A folder of a container with a Secret of these keys."""

    def make(**keys):
        for name, value in keys.items():
            (tmp_path / name).write_text(value)
        return Store(Location(uri="abfs://container/path", secret_directory=str(tmp_path)))

    return make


def at(port):
    return f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/a;"


class Azure(BaseHTTPRequestHandler):
    """A store in which there is one file, of two bytes; or one that has no time now."""

    status = 200

    def do_GET(self):
        body = b"hi" if self.status == 200 else b""
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", "bytes 0-1/2")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def azure():
    """Starts it, to answer with a status at a port; returns the port."""
    servers = []

    def start(port=0, status=200):
        servers.append(ThreadingHTTPServer(("127.0.0.1", port), type("Azure", (Azure,), {"status": status})))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_account_is_named_with_its_key(store):
    client = store(AZURE_STORAGE_ACCOUNT_NAME="ours", AZURE_STORAGE_ACCOUNT_KEY=f"{KEY}\n")._files.service_client
    assert client.url == "https://ours.blob.core.windows.net/"
    assert client.credential.account_key == KEY


def test_an_account_is_named_with_a_shared_access_signature(store):
    client = store(AZURE_STORAGE_ACCOUNT_NAME="ours", AZURE_STORAGE_SAS_TOKEN="sv=1&sig=2")._files.service_client
    assert client.url == "https://ours.blob.core.windows.net/?sv=1&sig=2"


def test_an_account_alone_is_asked_as_the_pod_itself(store):
    assert type(store(AZURE_STORAGE_ACCOUNT_NAME="ours")._files.credential).__name__ == "DefaultAzureCredential"


def test_without_a_secret_the_account_is_that_of_the_pods_environment(monkeypatch):
    with pytest.raises(StoreRefused, match=r"nothing says which account it is: name AZURE_STORAGE_ACCOUNT_NAME in one"):
        Store(Location(uri="abfs://container/path"))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ours")
    assert Store(Location(uri="abfs://container/path"))._files.service_client.account_name == "ours"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "the secret does not exist or is empty: it needs AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING"),
        ({"AZURE_STORAGE_ACCOUNT_KEY": KEY}, "holds AZURE_STORAGE_ACCOUNT_KEY alone: it needs AZURE_STORAGE_ACCOUNT_NAME or"),
        ({"AZURE_STORAGE_CONNECTION_STRING": "nonsense"}, "name no account that can be reached: .*malformed.*: check secretRef"),
    ],
)
def test_a_secret_that_opens_nothing_is_told(store, keys, words):
    with pytest.raises(StoreRefused, match=words):
        store(**keys)


def test_a_store_that_is_away_for_a_moment_is_waited_for(store, azure, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    async def come_back(*_):
        azure(port)

    opened = store(AZURE_STORAGE_CONNECTION_STRING=at(port))
    monkeypatch.setattr(asyncio, "sleep", come_back)
    assert opened.read("x") == b"hi"


def test_a_store_that_cannot_do_it_now_is_asked_again_for_more_than_a_minute(store, azure, monkeypatch):
    waits = []

    async def wait(seconds, *_):
        waits.append(seconds)

    opened = store(AZURE_STORAGE_CONNECTION_STRING=at(azure(status=503)))
    monkeypatch.setattr(asyncio, "sleep", wait)
    with pytest.raises(StoreRefused, match=r"cannot read x: .*: check the store's address"):
        opened.read("x")
    assert 60 < sum(waits) < 95
