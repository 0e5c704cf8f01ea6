"""Which URIs are allowed, and what a store's refusal says."""

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module

import pytest

from eagleray_runtime.contract.config import Location
from eagleray_runtime.errors import StoreRefused, StoreUnavailable
from eagleray_runtime.storage import Store, s3
from eagleray_runtime.storage.uris import parse


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("s3://bucket/some/path", ("s3", "bucket/some/path")),
        ("s3://bucket/rows-*.csv", ("s3", "bucket/rows-*.csv")),
        ("gs://bucket/some/path/", ("gs", "bucket/some/path")),
        ("abfs://container/some/path", ("abfs", "container/some/path")),
        ("pvc://claim/path/", ("file", "/claims/claim/path")),
        ("file:///tmp/x", ("file", "/tmp/x")),
    ],
)
def test_allowed_uris(uri, target):
    assert parse(uri, {"EAGLERAY_PVC_ROOT": "/claims", "EAGLERAY_ALLOW_FILE_URIS": "1"}) == target


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:///etc/passwd", "local mode only"),
        ("https://host/path", "scheme is not known"),
        ("/absolute/path", "scheme is not known"),
        ("s3:///path", "bucket is missing"),
        ("pvc://", "claim is missing"),
        ("pvc://claim/../other", "must not hold"),
        ("s3://bucket/a/../../b", "must not hold"),
    ],
)
def test_refused_uris(uri, words):
    with pytest.raises(StoreRefused, match=words):
        parse(uri, {})


def test_claims_are_mounted_below_one_folder_by_default():
    assert parse("pvc://claim/path", {}) == ("file", "/mnt/eagleray/pvc/claim/path")


def test_what_is_written_is_read_back_and_replaced_whole(folder, tmp_path):
    store = Store(folder("a/b"))
    store.write("x", b"one")
    store.write("x", b"two")
    assert store.read("x") == b"two"
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["x"]


def test_a_missing_file_says_what_to_check(folder):
    with pytest.raises(StoreRefused, match=r"cannot read x.*check folder, path and spelling"):
        Store(folder("a")).read("x")


def test_a_folder_that_is_not_there_is_removed_without_complaint(folder):
    Store(folder("nothing")).remove_folder()


def test_credentials_are_read_from_the_secrets_files(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "AWS_ACCESS_KEY_ID").write_text("key\n")
    (secret / "AWS_SECRET_ACCESS_KEY").write_text("hidden")
    (secret / "AWS_ENDPOINT_URL").write_text("http://127.0.0.1:9")
    (secret / "..data").mkdir()  # as the kubelet mounts a Secret
    files = Store(Location(uri="s3://bucket/path", secret_directory=str(secret)))._files
    assert (files.key, files.secret) == ("key", "hidden")
    assert files.client_kwargs["endpoint_url"] == "http://127.0.0.1:9"


def test_a_store_with_an_address_of_its_own_is_asked_by_path():
    assert s3.options({"AWS_ENDPOINT_URL": "http://store"})["config_kwargs"]["s3"] == {"addressing_style": "path"}
    assert "s3" not in s3.options({})["config_kwargs"]


def test_a_missing_secret_is_told(tmp_path):
    with pytest.raises(StoreRefused, match="secret's files cannot be read"):
        Store(Location(uri="s3://bucket/path", secret_directory=str(tmp_path / "none")))


@pytest.fixture
def at_port(tmp_path):
    """The folder of a bucket of a store at a port of this machine."""

    def make(port):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
        }.items():
            (tmp_path / name).write_text(value)
        return Store(Location(uri="s3://bucket/path", secret_directory=str(tmp_path)))

    return make


class OneFile(BaseHTTPRequestHandler):
    """A store in which there is one file, of two bytes."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(b"hi")

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_store_that_is_away_for_a_moment_is_waited_for(at_port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    servers = []

    def come_back():
        time.sleep(0.3)
        servers.append(HTTPServer(("127.0.0.1", port), OneFile))
        servers[0].serve_forever()

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        assert at_port(port).read("x") == b"hi"
    finally:
        servers[0].shutdown()
        thread.join()
        servers[0].server_close()


def test_a_store_that_is_away_is_not_one_without_the_file(at_port, monkeypatch):
    monkeypatch.setattr("eagleray_runtime.storage.s3.TRIES", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = at_port(taken.getsockname()[1])
        for ask in (store.find, lambda: store.exists("x")):
            with pytest.raises(StoreRefused, match=r"check the store's address"):
                ask()


def test_a_store_whose_library_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    monkeypatch.delitem(sys.modules, "eagleray_runtime.storage.gs", raising=False)
    with pytest.raises(StoreRefused, match=r"gs:// needs gcsfs.*, which is not installed here: install eagleray\[stores\]"):
        Store(Location(uri="gs://bucket/path"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_store_that_cannot_be_reached_is_told_in_its_own_words(at_port, monkeypatch):
    monkeypatch.setattr("eagleray_runtime.storage.s3.TRIES", 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        store = at_port(taken.getsockname()[1])
        with pytest.raises(StoreUnavailable, match=r"cannot read x.*127\.0\.0\.1.*check the store's address"):
            store.read("x")


class Says(BaseHTTPRequestHandler):
    """A store that says the same to whatever it is asked."""

    def do_HEAD(self):
        self.send_response(self.server.says)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("says", "kind"),
    [(403, StoreRefused), (404, StoreRefused), (500, StoreUnavailable), (503, StoreUnavailable)],
    ids=["forbidden", "not there", "fails", "has too much to do"],
)
def test_a_store_that_cannot_now_is_told_from_one_that_will_not(at_port, monkeypatch, says, kind):
    monkeypatch.setattr("eagleray_runtime.storage.s3.TRIES", 2)
    with HTTPServer(("127.0.0.1", 0), Says) as server:
        server.says = says
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            with pytest.raises(StoreRefused) as caught:
                at_port(server.server_port).read("x")
        finally:
            server.shutdown()
            thread.join()
    assert type(caught.value) is kind, caught.value


def of_google():
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError, TransportError

    yield from ((HttpError({"code": code, "message": "no"}), code >= 500) for code in (403, 404, 500, 503))
    yield from ((TransportError("no answer"), True), (TimeoutError(), True), (GoogleAuthError("not you"), False))


def of_azure():
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError, ServiceResponseError

    for code in (403, 404, 500, 503):
        error = HttpResponseError("no")
        error.status_code = code
        yield error, code >= 500
    yield from ((ServiceRequestError("no"), True), (ServiceResponseError("no"), True), (ClientAuthenticationError("no"), False))


def of_the_hub():
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    asked = httpx2.Request("GET", "http://hub/x")
    for code in (403, 404, 500, 503):
        yield HfHubHTTPError("no", response=httpx2.Response(code, request=asked)), code >= 500
    yield httpx2.ConnectError("no answer"), True


@pytest.mark.parametrize(("kind", "errors"), [("gs", of_google), ("abfs", of_azure), ("hf", of_the_hub)])
def test_each_cloud_tells_in_its_own_way_that_it_cannot_now(kind, errors):
    away = import_module(f"eagleray_runtime.storage.{kind}")._away
    for error, expected in errors():
        assert away(error) is expected, repr(error)


def test_a_folder_lists_its_files_at_any_depth_in_the_order_of_their_paths(folder, tmp_path):
    for name in ("b/2.png", "a/x/1.png", "a/1.png", "0.txt"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(b"")
    (tmp_path / "pictures-of-others").mkdir()
    (tmp_path / "pictures-of-others" / "1.png").write_bytes(b"")
    below = [path.removeprefix(f"{tmp_path}/pictures/") for path in Store(folder("pictures")).find_below()]
    assert below == ["0.txt", "a/1.png", "a/x/1.png", "b/2.png"]
    assert Store(folder("pictures/0.txt")).find_below() == []
    assert Store(folder("nothing")).find_below() == []
