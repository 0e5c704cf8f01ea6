"""Google Cloud Storage as fake-gcs-server plays it. It lets everybody in: keys are not tried by it."""

import http.client
import json

from tests.cluster.modules import FAKE_GCS
from tests.stores.emulator import built

BUCKET = "models"
ROOT = f"gs://{BUCKET}"


def command(port: int) -> list[str]:
    """Its command line; it is built now if there is a Go compiler."""
    program = built(FAKE_GCS, "fake-gcs-server")
    url = f"http://127.0.0.1:{port}"
    return [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-external-url", url]


def keys(port: int) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


def make_bucket(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/storage/v1/b?project=p", json.dumps({"name": BUCKET}), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()
