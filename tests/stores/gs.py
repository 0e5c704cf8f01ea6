"""Google Cloud Storage as fake-gcs-server plays it. It lets everybody in: keys are not tried by it."""

import http.client
import json
import shutil

import pytest

from tests.cluster.layout import cache_folder
from tests.cluster.modules import FAKE_GCS, Builder

BUCKET = "models"
ROOT = f"gs://{BUCKET}"


def command(port: int) -> list[str]:
    """Its command line; it is built now if there is a Go compiler."""
    go = shutil.which("go")
    builder = Builder(cache_folder(), lambda: str(go), lambda line: None)
    program = builder.location(FAKE_GCS).program("fake-gcs-server")
    if not program.is_file():
        if go is None:
            pytest.skip("fake-gcs-server cannot be built: install Go")
        builder.build((FAKE_GCS,))
    url = f"http://127.0.0.1:{port}"
    return [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-external-url", url]


def keys(port: int) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


def make_bucket(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/storage/v1/b?project=p", json.dumps({"name": BUCKET}), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()
