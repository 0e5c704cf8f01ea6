"""S3 as the VersityGW plays it, over a folder: a bucket is a folder in it."""

from pathlib import Path

from tests.cluster.modules import VERSITYGW
from tests.stores.emulator import built

BUCKET = "models"
ROOT = f"s3://{BUCKET}"
KEY, SECRET = "tester", "tested"


def command(port: int, folder: Path) -> list[str]:
    """Its command line; it is built now if there is a Go compiler."""
    (folder / BUCKET).mkdir()
    program = built(VERSITYGW, "versitygw")
    keys = ["--access", KEY, "--secret", SECRET, "--region", "us-east-1"]
    return [str(program), *keys, "--port", f"127.0.0.1:{port}", "posix", str(folder)]


def keys(port: int) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
